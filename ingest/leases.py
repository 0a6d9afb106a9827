"""Leases: who runs which camera in a fleet. The tables ``ingester`` and ``camera_lease``; every time is the database's own.

An ingester's sign of life renews all its leases at once. No lock is ever held: each statement is whole by itself, a lease can be taken
only while it is free and given only by its holder, so an ingester that dies in the middle of anything blocks nobody.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from core.errors import ConflictError
from core.ports import Database
from ingest.balance import Held

CHANNEL = "cameras"
"""Notified when a camera was added, changed, removed, freed or given back."""

# The later of the last sign of life and the start of the server: a database that was away must not make everybody look dead.
_SILENT_S = "extract(epoch from clock_timestamp() - greatest(seen_at, pg_postmaster_start_time()))::float8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who an ingester is."""

    id: str
    token: str
    """UUID of this run: two processes under one name are told apart."""
    host: str
    pid: int
    regions: tuple[str, ...] = ()
    """Empty = all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An ingester as the others see it."""

    id: str
    regions: frozenset[str]
    silent_s: float
    """Since its last sign of life."""
    load: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """The fleet at one moment."""

    members: Sequence[Member]
    """By id."""
    cameras: Mapping[str, Held]
    """By name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraState:
    """How a leased camera is, for people in other processes."""

    camera: str
    ingester: str
    state: str
    reason: str


class LeaseStore:
    """The two tables. Every call raises UnavailableError when the database is away. Thread rule: event loop."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def register(self, me: Identity) -> None:
        """Become the one ingester of this name; one that had it keeps its leases, and finds out at its next sign of life."""
        await self._db.execute(
            """insert into ingester (id, token, host, pid, regions) values ($1, $2, $3, $4, $5)
               on conflict (id) do update set token = excluded.token, host = excluded.host, pid = excluded.pid,
                   regions = excluded.regions, started_at = clock_timestamp(), seen_at = clock_timestamp()""",
            me.id,
            me.token,
            me.host,
            me.pid,
            list(me.regions),
        )

    async def renew(self, me: Identity) -> bool:
        """Give a sign of life; False when the others gave this ingester up meanwhile: register again.

        Raises:
            ConflictError: another process goes by this name now.
        """
        if await self._db.execute("update ingester set seen_at = clock_timestamp() where id = $1 and token = $2", me.id, me.token):
            return True
        rows = await self._db.fetch("select host, pid from ingester where id = $1", me.id)
        if not rows:
            return False
        raise ConflictError(
            f"another ingester goes by the name {me.id} now (process {rows[0]['pid']} on {rows[0]['host']}); give each its own --name"
        )

    async def look(self, regions: Sequence[str]) -> Sight:
        """Return all ingesters, and the enabled cameras of some regions (none = all) and who holds them.

        One statement, so one moment: loads of before a camera moved beside holders of after it would move more cameras than are to move.
        """
        rows = await self._db.fetch(
            f"""select id, regions, {_SILENT_S} as silent_s, (select count(*) from camera_lease where ingester = ingester.id) as load,
                       null::text as camera, null::text as region, null::text as holder
                from ingester
                union all
                select null, null, null, null, name, region, ingester from camera left join camera_lease on camera = name
                where enabled and (cardinality($1::text[]) = 0 or region = any($1))""",
            list(regions),
        )
        members = [
            Member(id=row["id"], regions=frozenset(row["regions"]), silent_s=row["silent_s"], load=row["load"])
            for row in rows
            if row["id"] is not None
        ]
        cameras = {row["camera"]: Held(region=row["region"], holder=row["holder"]) for row in rows if row["camera"] is not None}
        return Sight(members=sorted(members, key=lambda member: member.id), cameras=cameras)

    async def held(self, me: Identity) -> set[str]:
        """Return all cameras that an ingester holds: disabled ones and those of other regions, too."""
        return {row["camera"] for row in await self._db.fetch("select camera from camera_lease where ingester = $1", me.id)}

    async def expire(self, ids: Iterable[str], lease_s: float) -> int:
        """Give up those of the named ingesters that are still silent; their cameras are free then."""
        return await self._db.execute(f"delete from ingester where id = any($1) and {_SILENT_S} > $2", list(ids), lease_s)

    async def take(self, me: Identity, cameras: Iterable[str]) -> None:
        """Take what is free of these cameras. Taken in one order by all, so that nobody waits for each other."""
        await self._db.execute(
            """insert into camera_lease (camera, ingester)
               select name, $1 from camera where name = any($2) and enabled order by name on conflict do nothing""",
            me.id,
            list(cameras),
        )

    async def give(self, me: Identity, cameras: Iterable[str]) -> None:
        """Free these cameras of one's own."""
        await self._db.execute("delete from camera_lease where ingester = $1 and camera = any($2)", me.id, list(cameras))

    async def leave(self, me: Identity) -> None:
        """Free all one's cameras and go."""
        await self._db.execute("delete from ingester where id = $1 and token = $2", me.id, me.token)

    async def report(self, states: Sequence[CameraState]) -> None:
        """Store how cameras are."""
        await self._db.executemany(
            "update camera_lease set state = $3, reason = $4, changed_at = clock_timestamp() where camera = $1 and ingester = $2",
            [(state.camera, state.ingester, state.state, state.reason) for state in states],
        )

    async def states(self) -> "dict[str, CameraState]":
        """Return how each leased camera is, by name."""
        rows = await self._db.fetch("select camera, ingester, state, reason from camera_lease")
        return {row["camera"]: CameraState(**row) for row in rows}

    def changes(self) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Listen to CHANNEL."""
        return self._db.listen(CHANNEL)
