"""One attempt: a signed POST to a webhook's URL. Follows no redirects, reads little, and goes only where clients may send this server."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Final

import aiohttp
from yarl import URL

from api.webhooks.store import Outcome
from api.webhooks.wants import Delivery, Webhook, retry_s, signature
from core.errors import SightlineError
from core.outbound import resolve_public

ATTEMPT_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 4096
MAX_ERROR: Final = 300  # characters of an answer that are kept, so that people see why
CONNECTIONS: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Poster:
    """Sends. Thread rule: one event loop."""

    session: aiohttp.ClientSession
    allow: Sequence[str]
    """What may be reached beside the public internet."""
    random: Random
    clock: Callable[[], float] = time.time

    async def post(self, webhook: Webhook, secret: str, delivery: Delivery, body: bytes) -> Outcome:
        """Try once."""
        try:
            async with asyncio.timeout(ATTEMPT_S):
                target = await resolve_public(webhook.url, allow=self.allow)
                async with self.session.post(
                    URL(target.pinned_url, encoded=True),
                    data=body,
                    headers=self._headers(secret, delivery, body) | {"Host": target.authority},
                    server_hostname=target.host if target.scheme == "https" else None,
                    allow_redirects=False,
                ) as response:
                    text = (await response.content.read(MAX_ANSWER_BYTES)).decode(errors="replace")
                    return self._judge(delivery, response, text)
        except TimeoutError:
            return self._failed(delivery, None, f"no answer within {ATTEMPT_S:.0f} s")
        except SightlineError as err:
            return self._failed(delivery, None, str(err))
        except aiohttp.ClientConnectorCertificateError:
            return self._failed(delivery, None, "its certificate is not valid for this name")
        except (aiohttp.ClientError, OSError, ValueError) as err:
            return self._failed(delivery, None, f"the connection failed ({type(err).__name__})")

    def _headers(self, secret: str, delivery: Delivery, body: bytes) -> dict[str, str]:
        return {
            "Content-Type": "application/json",
            "User-Agent": "Sightline-Webhooks/1",
            "X-Sightline-Event-Id": str(delivery.event_id if delivery.event_id is not None else delivery.delivery_id),
            "X-Sightline-Delivery-Id": delivery.delivery_id,
            "X-Sightline-Signature": signature(secret, body, int(self.clock())),
        }

    def _judge(self, delivery: Delivery, response: aiohttp.ClientResponse, text: str) -> Outcome:
        if 200 <= response.status < 300:
            return Outcome(state="delivered", status=response.status)
        if 300 <= response.status < 400:
            return self._failed(delivery, response.status, f"it redirects ({response.status}), which is not followed; enter the new URL")
        shown = "".join(char if char.isprintable() else " " for char in text).strip()[:MAX_ERROR]
        return self._failed(delivery, response.status, f"it answered {response.status}{': ' + shown if shown else ''}")

    def _failed(self, delivery: Delivery, status: int | None, error: str) -> Outcome:
        return Outcome(state="waiting", status=status, error=error, retry_s=retry_s(delivery.attempts, self.random))


@asynccontextmanager
async def open_poster(allow: Sequence[str]) -> AsyncIterator[Poster]:
    """Open what sends, without cookies, proxies of the environment and decompression."""
    connector = aiohttp.TCPConnector(limit=CONNECTIONS, use_dns_cache=False)
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
    ) as session:
        yield Poster(session=session, allow=allow, random=Random())
