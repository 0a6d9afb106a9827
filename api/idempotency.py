"""``Idempotency-Key``: a POST that is sent again, because its answer was lost, does nothing again and is answered as it was.

The key belongs to who sent it, for a day. The same key with another content is refused (422), and while the first request is still being
answered so is the second (409). What failed with 5xx, or is too large to keep, is not kept: sending it again tries again.
(IETF draft-ietf-httpapi-idempotency-key-header.)
"""

import hashlib
import re
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from api.errors import MalformedError, UnprocessableError, response_of
from api.principal import principal
from api.services import services
from core.errors import ConflictError, SightlineError
from core.ports import Database
from core.sealing import SealedColumn

HEADER: Final = "Idempotency-Key"
KEY_PATTERN: Final = r"^[!-~]{1,200}$"
KEEP_HOURS: Final = 24
ABANDONED_S: Final = 180  # longer than any request may take: its process has died
MAX_BODY_BYTES: Final = 1 << 20
_KEPT_HEADERS: Final = ("Content-Type", "Location", "ETag")

_TAKE = """
insert into idempotent_request (actor, key, fingerprint) values ($1, $2, $3)
on conflict (actor, key) do update set fingerprint = excluded.fingerprint, status = null, headers = null, body = null, began_at = now()
    where idempotent_request.began_at < now() - make_interval(hours => $4)
    or idempotent_request.status is null and idempotent_request.began_at < now() - make_interval(secs => $5)
"""
_FIND = "select fingerprint, status, headers, body from idempotent_request where actor = $1 and key = $2"
_KEEP = "update idempotent_request set status = $3, headers = $4, body = $5 where actor = $1 and key = $2"
_DROP = "delete from idempotent_request where actor = $1 and key = $2 and status is null"


def _label(actor: str, key: str) -> str:
    return f"answer {actor} {key}"


SEALED: Final = (
    SealedColumn(table="idempotent_request", key="actor, key", column="body", label=lambda row: _label(row["actor"], row["key"])),
)
"""Every sealed column of this table."""


class Replayed(Exception):
    """The request was answered before."""

    def __init__(self, response: web.Response) -> None:
        super().__init__()
        self.response = response


class Claim:
    """A request with a key. It is taken once its content is known, which is before the handler has done anything."""

    def __init__(self, db: Database, actor: str, key: str, what: str) -> None:
        self._db = db
        self._id = (actor, key)
        self._what = what
        self.taken = False

    async def take(self, content: bytes) -> None:
        """Claim the key for a content (any digest of it).

        Raises:
            Replayed: it was answered before. ConflictError: it is being answered. UnprocessableError: the key was used for another request.
        """
        fingerprint = hashlib.sha256(self._what.encode(errors="surrogatepass") + b"\0" + content).digest()
        if await self._db.execute(_TAKE, *self._id, fingerprint, KEEP_HOURS, ABANDONED_S):
            self.taken = True
            return
        rows = await self._db.fetch(_FIND, *self._id)
        if not rows or (rows[0]["status"] is None and rows[0]["fingerprint"] == fingerprint):
            raise ConflictError(f"{HEADER}: the first request with this key is still being answered; try again in a moment")
        row = rows[0]
        if row["fingerprint"] != fingerprint:
            raise UnprocessableError(f"{HEADER}: this key was used for another request; take a new one for each")
        body = self._db.vault.open(row["body"], label=_label(*self._id))
        raise Replayed(web.Response(status=row["status"], body=body, headers=row["headers"] | {"Idempotent-Replayed": "true"}))

    async def settle(self, response: web.StreamResponse | None) -> None:
        """Keep an answer for those who ask again, or let the key go where there is none to keep."""
        body = response.body if isinstance(response, web.Response) and response.status < 500 else None
        if response is None or not isinstance(body, bytes | bytearray) or len(body) > MAX_BODY_BYTES:
            await self._db.execute(_DROP, *self._id)
            return
        headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        await self._db.execute(_KEEP, *self._id, response.status, headers, self._db.vault.seal(bytes(body), label=_label(*self._id)))


CLAIM = web.RequestKey("claim", Claim)


async def content_read(request: web.Request, digest: bytes) -> None:
    """Tell that the content of a request is known; what reads bodies calls it (api/uploads.py). Raises as Claim.take."""
    claim = request.get(CLAIM)
    if claim is not None and not claim.taken:
        await claim.take(digest)


async def once(
    request: web.Request, answer: Callable[[web.Request], Awaitable[web.StreamResponse]], *, reads_body: bool, request_id: str
) -> web.StreamResponse:
    """Answer a POST that has a key.

    Raises:
        MalformedError: the key is none.
    """
    key = request.headers[HEADER]
    if not re.fullmatch(KEY_PATTERN, key):
        raise MalformedError(f"{HEADER}: 1 to 200 visible ASCII characters; a UUID is a good one")
    claim = request[CLAIM] = Claim(services(request).db, principal(request).actor, key, f"{request.method} {request.path_qs}")
    response: web.StreamResponse | None = None
    try:
        if not reads_body:
            await claim.take(b"")
        response = await answer(request)
    except Replayed as replayed:
        return replayed.response
    except SightlineError as err:
        response = response_of(err, request_id=request_id)
    finally:
        if claim.taken:
            await claim.settle(response)
    return response
