"""Watchlists: of whom somebody wants to hear, where and when. The SQL of the tables ``watchlist`` and ``watchlist_subject``."""

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, get_args

from core.errors import ConflictError, NotFoundError, StaleError, UsageError
from core.ports import Database
from sightings.hours import Interval, intervals_of, zone_of
from sightings.record import parse_id
from sightings.scope import EVERYTHING, Scope

AlertOn = Literal["match", "stranger"]
Sound = Literal["none", "chime", "alarm", "siren"]
NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_COLOUR = re.compile(r"#[0-9a-f]{6}")
MAX_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a watchlist asks for."""

    description: str = ""
    enabled: bool = True
    """Whether it raises alerts."""
    alert_on: AlertOn = "match"
    """``match``: one of its subjects is seen. ``stranger``: anybody is seen who is not enrolled in its collection; it lists nobody."""
    colour: str = "#d32f2f"
    """Of its alerts, ``#rrggbb``."""
    sound: Sound = "none"
    """That a console plays for its alerts."""
    acknowledgement: bool = True
    """An alert is not closed before somebody has acknowledged it."""
    camera_groups: tuple[str, ...] = ()
    """Only at cameras of one of these groups; none = at all cameras."""
    time_zone: str = "UTC"
    """Of the active hours."""
    active_hours: tuple[Interval, ...] = ()
    """Only for what is captured in these weekly intervals; none = always."""

    def __post_init__(self) -> None:
        if self.alert_on not in get_args(AlertOn):
            raise UsageError(f"alert on {self.alert_on!r}: expected one of {', '.join(get_args(AlertOn))}")
        if self.sound not in get_args(Sound):
            raise UsageError(f"sound {self.sound!r}: expected one of {', '.join(get_args(Sound))}")
        if not _COLOUR.fullmatch(self.colour):
            raise UsageError(f"colour {self.colour[:20]!r}: expected '#' and six digits 0-9 a-f")
        for group in self.camera_groups:
            if not NAME.fullmatch(group):
                raise UsageError(f"camera group {group[:80]!r}: expected 1 to 64 letters, digits, dots, underscores and dashes")


_POLICY: Final = tuple(field.name for field in fields(Policy))
_SELECT = f"""
select w.watchlist_id, w.name, w.collection, w.version, w.created_at, {", ".join(f"w.{name}" for name in _POLICY)},
       (select count(*) from watchlist_subject l where l.watchlist_id = w.watchlist_id) as subjects,
       (select jsonb_strip_nulls(jsonb_build_object('score', t.score, 'far', t.far, 'fpir', t.fpir))
        from threshold t where t.level = 'watchlist' and t.key = w.name) as threshold
from watchlist w
"""
_LIST = (
    _SELECT
    + """
where ($1::text[] is null or w.collection = any($1)) and ($2::text[] is null or w.name = any($2)) and w.name > $3
order by w.name limit $4
"""
)
_ONE = _SELECT + "where w.name = $1 and ($2::text[] is null or w.collection = any($2)) and ($3::text[] is null or w.name = any($3))"
_ADD = f"""
insert into watchlist (name, collection, {", ".join(_POLICY)}) values ({", ".join(f"${n}" for n in range(1, len(_POLICY) + 3))})
on conflict do nothing
"""
_CHANGE = f"""
update watchlist set version = version + 1, {", ".join(f"{name} = ${n}" for n, name in enumerate(_POLICY, 2))} where watchlist_id = $1
"""
_MEMBERS = """
select s.subject_id, s.name, l.added_at from watchlist_subject l join subject s using (subject_id)
where l.watchlist_id = $1 and (s.name, s.subject_id) > ($2, $3::uuid) order by s.name, s.subject_id limit $4
"""
_FIND = "select subject_id from subject where collection = $1 and (name = $2 or subject_id = $3)"
_PUT = "insert into watchlist_subject (watchlist_id, subject_id) select $1, unnest($2::uuid[]) on conflict do nothing"
_NIL = uuid.UUID(int=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watchlist:
    """A watchlist as people see it."""

    name: str
    collection: str
    policy: Policy
    subjects: int
    version: int
    threshold: Mapping[str, float] | None
    """Its own, as score, far or fpir (recognize/rules keeps it); None when it has none."""

    @property
    def enabled(self) -> bool:
        """Whether it raises alerts."""
        return self.policy.enabled


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A subject of a watchlist."""

    subject_id: str
    subject: str


class WatchlistStore:
    """Keeps the watchlists. Changes hold for what is stored from then on. Thread rule: one event loop; any number of processes."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def add(self, name: str, *, collection: str, policy: Policy | None = None) -> Watchlist:
        """Make a watchlist of subjects of a collection.

        Raises:
            UsageError: the name can't be. NotFoundError: no such collection. ConflictError: the name is taken.
        """
        if not NAME.fullmatch(name):
            raise UsageError(f"watchlist '{name[:80]}': expected 1 to 64 letters, digits, dots, underscores and dashes")
        policy = policy or Policy()
        zone_of(policy.time_zone)
        if not await self._db.fetch("select from collection where name = $1", collection):
            raise NotFoundError(f"collection '{collection[:80]}': there is none; enrol somebody into it first")
        if not await self._db.execute(_ADD, name, collection, *_row(policy)):
            raise ConflictError(f"watchlist '{name}': there is one of this name")
        return await self.get(name)

    async def watchlists(self, scope: Scope = EVERYTHING, *, after: str = "", limit: int | None = None) -> list[Watchlist]:
        """Return watchlists by name, behind one of them."""
        collections, names, _ = scope.lists()
        return [_watchlist(row) for row in await self._db.fetch(_LIST, collections, names, after, limit)]

    async def get(self, name: str, scope: Scope = EVERYTHING) -> Watchlist:
        """Return a watchlist. Raises NotFoundError."""
        return _watchlist((await self._row(name, scope))[1])

    async def change(self, name: str, changes: Mapping[str, Any], *, version: int | None = None, scope: Scope = EVERYTHING) -> Watchlist:
        """Change fields of the policy; what is not named stays.

        Args:
            name: of the watchlist.
            changes: fields of :class:`Policy`.
            version: that is changed; None = whichever is there.
            scope: of who asks.

        Raises:
            NotFoundError: none of this name. UsageError: a value that can't be. StaleError: it was changed meanwhile.
            ConflictError: it lists people, and is to alert on strangers.
        """
        async with self._db.transaction() as tx:
            key, row = await WatchlistStore(tx)._row(name, scope, lock=True)
            before = _watchlist(row)
            _check_version(before, version)
            policy = Policy(**({one: getattr(before.policy, one) for one in _POLICY} | dict(changes)))
            zone_of(policy.time_zone)
            if policy.alert_on == "stranger" and before.subjects:
                raise ConflictError(f"watchlist '{name}': lists {before.subjects} people; take them off before it alerts on strangers")
            if policy != before.policy:
                await tx.execute(_CHANGE, key, *_row(policy))
            return await WatchlistStore(tx).get(name)

    async def set_enabled(self, name: str, enabled: bool) -> Watchlist:
        """Let a watchlist raise alerts, or not. Raises NotFoundError."""
        return await self.change(name, {"enabled": enabled})

    async def remove(self, name: str, *, version: int | None = None, scope: Scope = EVERYTHING) -> None:
        """Remove a watchlist; its alerts stay. Raises NotFoundError, StaleError."""
        async with self._db.transaction() as tx:
            key, row = await WatchlistStore(tx)._row(name, scope, lock=True)
            _check_version(_watchlist(row), version)
            await tx.execute("delete from watchlist where watchlist_id = $1", key)

    async def members(self, name: str) -> list[Member]:
        """Return the subjects of a watchlist by name. Raises NotFoundError."""
        found: list[Member] = []
        while page := await self.page_of_members(name, after=found[-1] if found else None, limit=MAX_PAGE):
            found += page
        return found

    async def page_of_members(self, name: str, *, after: Member | None, limit: int, scope: Scope = EVERYTHING) -> list[Member]:
        """Return subjects of a watchlist by name, behind one of them. Raises NotFoundError."""
        key, _ = await self._row(name, scope)
        behind = ("", _NIL) if after is None else (after.subject, uuid.UUID(after.subject_id))
        rows = await self._db.fetch(_MEMBERS, key, *behind, limit)
        return [Member(subject_id=str(row["subject_id"]), subject=row["name"]) for row in rows]

    async def put(self, name: str, subjects: Sequence[str], *, scope: Scope = EVERYTHING) -> int:
        """Put subjects, given by id or name, on a watchlist, all or none; return how many were not on it.

        Raises:
            NotFoundError: no such watchlist, or a subject that its collection does not have. ConflictError: it is about strangers.
        """
        async with self._db.transaction() as tx:
            store = WatchlistStore(tx)
            key, row = await store._row(name, scope, lock=True)
            if row["alert_on"] == "stranger":
                raise ConflictError(f"watchlist '{name}': alerts on strangers, so it lists nobody; make another one")
            return await tx.execute(_PUT, key, await store._subject_ids(subjects, row["collection"]))

    async def take(self, name: str, subjects: Sequence[str], *, scope: Scope = EVERYTHING) -> int:
        """Take subjects, given by id or name, off a watchlist, all or none; return how many were on it.

        Raises:
            NotFoundError: no such watchlist, or a subject that its collection does not have.
        """
        async with self._db.transaction() as tx:
            store = WatchlistStore(tx)
            key, row = await store._row(name, scope)
            ids = await store._subject_ids(subjects, row["collection"])
            return await tx.execute("delete from watchlist_subject where watchlist_id = $1 and subject_id = any($2::uuid[])", key, ids)

    async def _row(self, name: str, scope: Scope = EVERYTHING, *, lock: bool = False) -> tuple[uuid.UUID, dict[str, Any]]:
        collections, names, _ = scope.lists()
        rows = (
            []
            if "\x00" in name
            else await self._db.fetch(
                _SELECT
                + "where w.name = $1 and ($2::text[] is null or w.collection = any($2)) and ($3::text[] is null or w.name = any($3))"
                + (" for update of w" if lock else ""),
                name,
                collections,
                names,
            )
        )
        if not rows:
            raise NotFoundError(f"watchlist '{name[:80]}': there is none; 'sightline watchlists list' shows which there are")
        return rows[0]["watchlist_id"], rows[0]

    async def _subject_ids(self, subjects: Sequence[str], collection: str) -> list[uuid.UUID]:
        found: list[uuid.UUID] = []
        for subject in subjects:
            rows = [] if "\x00" in subject else await self._db.fetch(_FIND, collection, subject, parse_id(subject))
            if not rows:
                raise NotFoundError(f"subject '{subject[:80]}': collection {collection} has none of this name or id; nothing was changed")
            found += [row["subject_id"] for row in rows]
        return found


def policy_of(row: Mapping[str, Any]) -> Policy:
    """Read the policy from a row of ``watchlist``."""
    values = {name: row[name] for name in _POLICY}
    return Policy(**values | {"camera_groups": tuple(row["camera_groups"]), "active_hours": intervals_of(row["active_hours"])})


def _row(policy: Policy) -> list[Any]:
    values = {name: getattr(policy, name) for name in _POLICY}
    values |= {"camera_groups": list(policy.camera_groups), "active_hours": [interval.line() for interval in policy.active_hours]}
    return list(values.values())


def _check_version(found: Watchlist, version: int | None) -> None:
    if version is not None and version != found.version:
        raise StaleError(f"watchlist '{found.name}': was changed meanwhile; read it again")


def _watchlist(row: dict[str, Any]) -> Watchlist:
    same = {name: row[name] for name in ("name", "collection", "subjects", "version", "threshold")}
    return Watchlist(**same, policy=policy_of(row))
