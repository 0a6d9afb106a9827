"""API keys in PostgreSQL. What a change makes invalid is told to all API processes (see CHANNEL)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from api.access.key_text import key_text, new_public_id, new_secret, sha256
from api.access.record import KeyRecord, listed
from api.principal import Grant, Permission, Role
from core.errors import ConflictError, NotFoundError, StaleError
from core.ports import Database
from sightings.cursor import Cursor
from sightings.record import parse_id

CHANNEL: Final = "access"
"""Of NOTIFY, for each commit that changes what somebody may; it has no payload: readers forget what they know."""
TELL: Final = f"select pg_notify('{CHANNEL}', '')"
FIRST_KEY: Final = "first start"
CHANGEABLE: Final = (
    "name",
    "scopes",
    "collections",
    "watchlists",
    "camera_groups",
    "rate_per_minute",
    "requests_per_day",
    "expires_at",
)
SELECT: Final = """
select k.*, coalesce(d.requests, 0) as used_today,
       k.revoked_at is null and (k.expires_at is null or k.expires_at > now()) as valid,
       case when k.old_until > now() then k.old_secret_sha256 end as old_secret
from api_key k left join api_key_day d on d.key_id = k.key_id and d.day = current_date
"""
_ADD = """
insert into api_key (public_id, name, role, scopes, collections, watchlists, camera_groups, rate_per_minute, requests_per_day, expires_at,
                     secret_sha256, created_by)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) returning key_id
"""
_ROTATE = """
update api_key
set old_secret_sha256 = secret_sha256, old_until = now() + make_interval(secs => $3), secret_sha256 = $2, version = version + 1
where key_id = $1
"""
_LOCK_FIRST = "select pg_advisory_xact_lock(hashtextextended('sightline/first key', 0))"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key to be made; None means no limit, as in KeyRecord."""

    name: str
    role: Role
    scopes: frozenset[Permission] | None = None
    collections: Grant = None
    watchlists: Grant = None
    camera_groups: Grant = None
    rate_per_minute: int | None = None
    requests_per_day: int | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A key with its secret, which nobody can read again."""

    key: KeyRecord
    text: str


class KeyStore:
    """The table ``api_key``. Thread rule: one event loop; any number of processes."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(self, new: NewKey, *, created_by: str) -> Made:
        """Make a key."""
        public_id, secret = new_public_id(), new_secret()
        grants = [listed(one) for one in (new.scopes, new.collections, new.watchlists, new.camera_groups)]
        limits = (new.rate_per_minute, new.requests_per_day, new.expires_at)
        rows = await self._db.fetch(_ADD, public_id, new.name, new.role, *grants, *limits, sha256(secret), created_by)
        return Made(await self.get(str(rows[0]["key_id"])), key_text(public_id, secret))

    async def create_first(self) -> Made | None:
        """Make an administrator's key, if there is no key at all; of several processes at once one makes it, the others get None."""
        async with self._db.transaction() as tx:
            await tx.fetch(_LOCK_FIRST)
            if await tx.fetch("select from api_key limit 1"):
                return None
            return await KeyStore(tx).create(NewKey(name="administrator", role="admin"), created_by=FIRST_KEY)

    async def get(self, key_id: str) -> KeyRecord:
        """Return a key. Raises NotFoundError."""
        rows = await self._db.fetch(SELECT + "where k.key_id = $1", parse_id(key_id))
        if not rows:
            raise no_key(key_id)
        return KeyRecord.of(rows[0])

    async def by_public_id(self, public_id: str) -> KeyRecord | None:
        """Return the key of the id that is part of its text, None when there is none."""
        rows = await self._db.fetch(SELECT + "where k.public_id = $1", public_id)
        return KeyRecord.of(rows[0]) if rows else None

    async def page(self, *, limit: int, cursor: str | None = None) -> tuple[list[KeyRecord], str | None]:
        """Return a page of keys, newest first, and the cursor of the next. Raises UsageError for a cursor that is none of ours."""
        after = Cursor.decode(cursor) if cursor else None
        rows = await self._db.fetch(
            SELECT
            + "where $2::timestamptz is null or (k.created_at, k.key_id) < ($2, $3) order by k.created_at desc, k.key_id desc limit $1",
            limit + 1,
            after and after.at,
            after and after.row_id,
        )
        last = rows[limit - 1] if len(rows) > limit else None
        following = Cursor(last["created_at"], last["key_id"]).encode() if last else None
        return [KeyRecord.of(row) for row in rows[:limit]], following

    async def change(self, key_id: str, changes: Mapping[str, Any], *, version: int | None) -> KeyRecord:
        """Change fields of CHANGEABLE.

        Raises:
            NotFoundError: there is no such key. StaleError: it has another version by now. ConflictError: it is revoked.
        """
        sets, values = assignments(changes, CHANGEABLE)
        async with self._db.transaction() as tx:
            await _locked(tx, key_id, version)
            await tx.execute(f"update api_key set {sets}version = version + 1 where key_id = $1", parse_id(key_id), *values)
            await tx.fetch(TELL)
            return await KeyStore(tx).get(key_id)

    async def rotate(self, key_id: str, *, grace_s: float) -> Made:
        """Give a key a new secret; the one before is good for ``grace_s`` more seconds, any older one is not.

        Raises:
            NotFoundError: there is no such key. ConflictError: it is revoked.
        """
        secret = new_secret()
        async with self._db.transaction() as tx:
            await _locked(tx, key_id, None)
            await tx.execute(_ROTATE, parse_id(key_id), sha256(secret), grace_s)
            await tx.fetch(TELL)
            key = await KeyStore(tx).get(key_id)
        return Made(key, key_text(key.public_id, secret))

    async def revoke(self, key_id: str) -> KeyRecord:
        """Make a key of no use, for ever. Idempotent. Raises NotFoundError."""
        async with self._db.transaction() as tx:
            await tx.execute(
                "update api_key set revoked_at = now(), version = version + 1 where key_id = $1 and revoked_at is null", parse_id(key_id)
            )
            await tx.execute("delete from api_session where key_id = $1", parse_id(key_id))
            await tx.fetch(TELL)
            return await KeyStore(tx).get(key_id)

    async def count_use(self, requests: Sequence[tuple[str, int]]) -> None:
        """Add to today's requests of keys."""
        await self._db.execute(
            "insert into api_key_day (key_id, day, requests) "
            "select k.key_id, current_date, t.requests "
            "from unnest($1::uuid[], $2::bigint[]) t (key_id, requests) join api_key k using (key_id) order by k.key_id "
            "on conflict (key_id, day) do update set requests = api_key_day.requests + excluded.requests",
            [parse_id(key) for key, _ in requests],
            [count for _, count in requests],
        )
        await self._db.execute(
            "update api_key set last_used_at = now() "
            "where key_id = any($1::uuid[]) and (last_used_at is null or last_used_at < now() - interval '1 minute')",
            [parse_id(key) for key, _ in requests],
        )


async def _locked(tx: Database, key_id: str, version: int | None) -> None:
    rows = await tx.fetch("select version, revoked_at from api_key where key_id = $1 for update", parse_id(key_id))
    if not rows:
        raise no_key(key_id)
    if version is not None and rows[0]["version"] != version:
        raise StaleError(f"key {key_id}: has changed since it was read; read it again")
    if rows[0]["revoked_at"] is not None:
        raise ConflictError(f"key {key_id}: is revoked; make a new one")


def assignments(changes: Mapping[str, Any], changeable: Sequence[str]) -> tuple[str, list[Any]]:
    """Return what an update sets, a comma behind each, and the values for $2 and on."""
    names = [name for name in changeable if name in changes]
    values = [listed(changes[name]) if isinstance(changes[name], frozenset) else changes[name] for name in names]
    return "".join(f"{name} = ${place}, " for place, name in enumerate(names, 2)), values


def no_key(key_id: str) -> NotFoundError:
    """Return the error for a key that is not there, or not for who asks."""
    return NotFoundError(f"key {key_id[:64]}: there is none")
