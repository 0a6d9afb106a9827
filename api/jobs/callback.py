"""The call at the end of a job: signed, tried again for a day, never to where clients may not send this server."""

import time
import uuid
from datetime import timedelta
from typing import Any, Final

import aiohttp
import msgspec
import structlog
from yarl import URL

from api.jobs.record import Job, callback_label
from api.jobs.store import COLUMNS, job_of
from api.webhooks.wants import signature
from core.errors import SightlineError, UnavailableError
from core.metrics import Metrics
from core.outbound import AddressRefusedError, resolve_public
from core.ports import Database
from core.settings import Settings

CALL_S: Final = 10.0
FIRST_WAIT_S: Final = 5.0
LONGEST_WAIT_S: Final = 3600.0
MAX_TRIES: Final = 30  # about a day
SIGNATURE_HEADER: Final = "X-Sightline-Signature"
_TAKE = f"""
update job set callback_due_at = now() + interval '1 minute', callback_tries = callback_tries + 1
where job_id = (
    select job_id from job where callback_due_at <= now() and state not in ('queued', 'running')
    order by callback_due_at limit 1 for update skip locked)
returning callback, callback_tries, {COLUMNS}
"""
_log = structlog.get_logger(__name__)


class Callbacks:
    """Tells who asked for it that a job has ended. Any number of processes; each call is made by one."""

    def __init__(self, db: Database, *, settings: Settings, metrics: Metrics) -> None:
        self._db = db
        self._allow = settings.outbound.webhook_allow
        self._metrics = metrics

    async def send_one(self) -> bool:
        """Make a call that is due; False when there is none."""
        rows = await self._db.fetch(_TAKE)
        if not rows:
            return False
        sealed, tries = rows[0].pop("callback"), rows[0].pop("callback_tries")
        job = job_of(rows[0])
        target = msgspec.json.decode(self._db.vault.open(sealed, label=callback_label(job.job_id)), type=dict[str, str])
        try:
            await self._post(job, target)
        except (SightlineError, aiohttp.ClientError, OSError, ValueError) as err:
            await self._failed(job.job_id, tries, err)
        else:
            self._metrics.job_callbacks.labels("delivered").inc()
            await self._db.execute("update job set callback_due_at = null where job_id = $1", job.job_id)
        return True

    async def _post(self, job: Job, target: dict[str, str]) -> None:
        where = await resolve_public(target["url"], allow=self._allow)
        body = msgspec.json.encode(body_of(job))
        headers = {
            "Content-Type": "application/json",
            "Host": where.authority,
            SIGNATURE_HEADER: signature(target["secret"], body, int(time.time())),
        }
        timeout = aiohttp.ClientTimeout(total=CALL_S)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()) as client:
            name = where.host if where.scheme == "https" else None
            async with client.post(
                URL(where.pinned_url, encoded=True), data=body, headers=headers, allow_redirects=False, server_hostname=name
            ) as response:
                if not 200 <= response.status < 300:
                    raise UnavailableError(f"callback: answered {response.status}")

    async def _failed(self, job_id: uuid.UUID, tries: int, err: Exception) -> None:
        final = tries >= MAX_TRIES or isinstance(err, AddressRefusedError)
        self._metrics.job_callbacks.labels("given_up" if final else "retried").inc()
        _log.warning("callback failed", job=str(job_id), tries=tries, error=type(err).__name__, final=final)
        wait = timedelta(seconds=min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (tries - 1)))
        await self._db.execute(
            "update job set callback_due_at = case when $2 then null else now() + $3::interval end where job_id = $1", job_id, final, wait
        )


def body_of(job: Job) -> dict[str, Any]:
    """Return what is sent: how the job ended, nothing of a person."""
    return {
        "event": "job",
        "job_id": str(job.job_id),
        "kind": job.kind,
        "state": job.state,
        "version": job.version,
        "total": job.total,
        "done": job.done,
        "rejected": job.rejected,
        "set_apart": job.set_apart,
    }
