"""Which matchers live, and what they search: each tells PostgreSQL, so that an enrolment knows when everyone has it."""

import asyncio
import contextlib
import math
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from core.errors import UnavailableError
from core.ports import Database
from core.runner import first_error
from core.topology import ShardId
from matcher.gathering import missing_from
from matcher.local import LocalShard

CHANNEL = "matchers"  # notified when a replica has a new generation, becomes ready or leaves
BEAT_S = 1.0
LIVE_S = 5.0  # a replica that is silent for longer is dead: nobody waits for it
SURE_S = LIVE_S - BEAT_S  # a replica that has not told for longer may count as dead already
PAUSE_S = 0.02  # between two beats: an import of thousands of photos makes fifty beats a second, not thousands
TELL_S = 2.0  # a beat that takes longer is lost
NEWEST_S = 30.0  # for the changes of a whole load
POLL_S = 0.25  # a lost notification delays an enrolment by this much
KEPT = "1 hour"  # how long the row of a killed replica stays for operators to look at

_TELL = """
with told as (
    insert into matcher_replica (replica_id, name, host, pid, shard, shards_total, generation, "references", ready, seen_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, clock_timestamp())
    on conflict (replica_id) do update set
        generation = excluded.generation, "references" = excluded."references", ready = excluded.ready, seen_at = excluded.seen_at
    returning 1
)
select pg_notify($10, '') from told where $11
"""
_FORGET = f"""
delete from matcher_replica
where seen_at < now() - interval '{KEPT}' or (name = $1 and shard = $2 and shards_total = $3 and replica_id <> $4)
"""
_NEWEST = "select generation from gallery_generation"
_LEAVE = "with gone as (delete from matcher_replica where replica_id = $1 returning 1) select pg_notify($2, '') from gone"
_REPLICAS = """
select name, host, pid, shard, shards_total, generation, "references", ready,
       extract(epoch from now() - seen_at)::float8 as silent_s,
       extract(epoch from now() - pg_postmaster_start_time())::float8 as server_s
from matcher_replica order by shards_total, shard, name
"""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A matcher process as it last told."""

    name: str
    host: str
    pid: int
    shard: ShardId
    generation: int
    """Of the gallery that it searches; -1 = not loaded yet."""
    references: int
    ready: bool
    """It takes probes."""
    silent_s: float = 0.0
    """Since its last word, by the database's clock."""


class Presence:
    """One matcher's own presence. Thread rule: one event loop."""

    def __init__(
        self, db: Database, shard: LocalShard, shard_id: ShardId, *, name: str = "", now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._db = db
        self._shard = shard
        self._id = shard_id
        self._replica_id = uuid.uuid4()
        self._host, self._pid = socket.gethostname(), os.getpid()
        self.name = name or f"{self._host}-{self._pid}"
        self._now_s = now_s
        self._ready = False
        self._told: tuple[int, bool] | None = None
        self._tried_s = -LIVE_S

    async def run(self) -> None:
        """Tell at once, each second, and after each new generation, until cancelled; goes on while the database is away."""
        away = False
        while True:
            generation = self._shard.generation
            try:
                await self._tell()
                away = False
            except UnavailableError as err:
                if not away:
                    _log.warning("database does not hear this matcher, trying on", replica=self.name, reason=str(err))
                away = True
            await asyncio.sleep(PAUSE_S)
            with contextlib.suppress(UnavailableError):
                await self._shard.wait_generation(generation + 1, BEAT_S)

    async def begin(self) -> None:
        """Tell for the first time; a replica of the same name before it is gone. Raises UnavailableError."""
        await self._db.execute(_FORGET, self.name, self._id.shard, self._id.shards_total, self._replica_id)
        await self._tell()

    async def become_ready(self) -> None:
        """Tell that probes are taken from now on, then wait until the shard has all that is committed by now, in this order.

        A change that committed before others could see this replica is applied before its first answer; for a later one they wait.
        Somebody must follow the gallery meanwhile.

        Raises:
            UnavailableError: the database does not answer; not ready yet.
        """
        self._ready = True
        try:
            await self._tell()
            await self._await_newest(NEWEST_S)
        except UnavailableError:
            self._ready = False
            raise

    async def be_sure(self) -> None:
        """Return at once where others know that this replica lives; where it slept for so long that they may not, tell and catch up.

        While the database is away there is nothing to wait for: the replica answers with the gallery that it has.
        """
        silent_s = self._now_s() - self._tried_s
        if silent_s < SURE_S:
            return
        _log.warning("this matcher slept, catching up first", replica=self.name, seconds=round(silent_s, 1))
        with contextlib.suppress(UnavailableError):
            await self._tell()
            await self._await_newest(TELL_S)

    async def _await_newest(self, timeout_s: float) -> None:
        newest = int((await self._db.fetch(_NEWEST))[0]["generation"])
        await self._shard.wait_generation(newest, timeout_s)

    async def leave(self) -> None:
        """Tell that this replica answers no more; if the database is away, it finds out by itself."""
        with contextlib.suppress(UnavailableError, TimeoutError):
            async with asyncio.timeout(TELL_S):
                await self._db.execute(_LEAVE, self._replica_id, CHANNEL)

    async def _tell(self) -> None:
        started_s, state = self._now_s(), (self._shard.generation, self._ready)
        try:
            async with asyncio.timeout(TELL_S):
                await self._db.execute(
                    _TELL,
                    self._replica_id,
                    self.name,
                    self._host,
                    self._pid,
                    self._id.shard,
                    self._id.shards_total,
                    state[0],
                    self._shard.references,
                    state[1],
                    CHANNEL,
                    state != self._told,
                )
        except TimeoutError as err:
            raise UnavailableError(f"database: no answer within {TELL_S:g} s") from err
        finally:
            self._tried_s = started_s  # from when on the row is new, if it is
        self._told = state


@asynccontextmanager
async def open_replicas(db: Database) -> AsyncIterator["Replicas"]:
    """Watch the fleet's matchers inside the block."""
    replicas = Replicas(db)
    try:
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(replicas.listen(), name="matchers")
            yield replicas
            listening.cancel()
    except BaseExceptionGroup as failed:
        raise first_error(failed) from failed


class Replicas:
    """The fleet's matchers, as they told the database. Thread rule: one event loop."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._news = asyncio.Event()

    async def live(self) -> list[Replica]:
        """Return the matchers that live, by the database's clock. Raises UnavailableError."""
        rows = await self._db.fetch(_REPLICAS)
        server_s = min((row.pop("server_s") for row in rows), default=0.0)
        replicas = [Replica(shard=ShardId(shards_total=row.pop("shards_total"), shard=row.pop("shard")), **row) for row in rows]
        return living(replicas, server_s)

    async def await_visible(self, generation: int, timeout_s: float) -> None:
        """Return once every search sees this generation of the gallery: every live matcher has it, and they hold every bucket.

        Raises:
            UnavailableError: no matcher runs (at once), or not all have it within timeout_s; says who lags.
        """
        problem = "the database does not answer"
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    news = self._news
                    replicas = await self.live()
                    if not replicas:
                        raise UnavailableError("no matcher is running: start `sightline match` for every shard of the gallery")
                    problem = why_not_visible(replicas, generation)
                    if not problem:
                        return
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(news.wait(), POLL_S)
        except TimeoutError as err:
            raise UnavailableError(f"gallery: generation {generation} is not searched everywhere after {timeout_s:g} s: {problem}") from err

    async def listen(self) -> None:
        """Wake those who wait whenever a matcher tells something new, until cancelled."""
        while True:
            try:
                async with self._db.listen(CHANNEL) as notifications:
                    self._tell()
                    async for _ in notifications:
                        self._tell()
            except UnavailableError:
                pass  # who waits polls meanwhile
            await asyncio.sleep(POLL_S)

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def living(replicas: Sequence[Replica], server_s: float) -> list[Replica]:
    """Return those that told within LIVE_S. Pure.

    While the database server was down nobody could tell: in its first LIVE_S, those who lived when it stopped are taken to live on.

    Args:
        replicas: as they told.
        server_s: since when the database server is up.
    """
    last_s = min((replica.silent_s for replica in replicas if replica.silent_s >= server_s), default=math.inf)
    return [
        replica
        for replica in replicas
        if replica.silent_s < LIVE_S or (server_s < LIVE_S and server_s <= replica.silent_s < last_s + LIVE_S)
    ]


def why_not_visible(replicas: Sequence[Replica], generation: int) -> str:
    """Return why searches may not see a generation yet, naming who lags; "" when all do. Pure.

    A replica that is not ready answers nobody: it is not waited for, and counts for nothing.
    """
    ready = [replica for replica in replicas if replica.ready]
    if not ready:
        return "no matcher is ready yet: " + ", ".join(f"{replica.name} loads shard {replica.shard.label}" for replica in replicas)
    problems = [
        f"{replica.name} (shard {replica.shard.label}) is at {replica.generation}" for replica in ready if replica.generation < generation
    ]
    if missing := missing_from({replica.shard for replica in ready}):
        problems.append("no matcher is ready for shard " + ", ".join(shard.label for shard in missing))
    return "; ".join(problems)
