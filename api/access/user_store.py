"""Users of the console, and sessions, in PostgreSQL."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from api.access.key_store import SELECT as SELECT_KEY
from api.access.key_store import TELL, assignments
from api.access.record import KeyRecord, SessionRecord, UserRecord, listed
from api.principal import Grant, Role
from core.errors import ConflictError, NotFoundError, StaleError
from core.ports import Database
from sightings.record import parse_id

CHANGEABLE: Final = ("role", "collections", "watchlists", "camera_groups", "disabled", "password")
_ENDS_SESSIONS: Final = {"disabled", "password"}
_BEGIN = """
insert into api_session (session_sha256, user_id, key_id, token_sha256, ends_at)
values ($1, $2, $3, $4, now() + make_interval(secs => $5)) returning began_at, ends_at
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """A user to be made."""

    name: str
    role: Role
    password: str
    """Argon2id, encoded."""
    collections: Grant = None
    watchlists: Grant = None
    camera_groups: Grant = None


class UserStore:
    """The table ``api_user``. Thread rule: one event loop; any number of processes."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(self, new: NewUser, *, created_by: str) -> UserRecord:
        """Make a user. Raises ConflictError: the name is taken, in whatever case."""
        rows = await self._db.fetch(
            "insert into api_user (name, role, password, collections, watchlists, camera_groups, created_by) "
            "values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing returning *",
            new.name,
            new.role,
            new.password,
            *(listed(one) for one in (new.collections, new.watchlists, new.camera_groups)),
            created_by,
        )
        if not rows:
            raise ConflictError(f"user '{new.name}': is there already")
        return UserRecord.of(rows[0])

    async def get(self, user_id: str) -> UserRecord:
        """Return a user. Raises NotFoundError."""
        rows = await self._db.fetch("select * from api_user where user_id = $1", parse_id(user_id))
        if not rows:
            raise no_user(user_id)
        return UserRecord.of(rows[0])

    async def by_name(self, name: str) -> UserRecord | None:
        """Return the user of a name, None when there is none."""
        rows = await self._db.fetch("select * from api_user where lower(name) = lower($1)", name)
        return UserRecord.of(rows[0]) if rows else None

    async def page(self, *, limit: int, after: str = "") -> list[UserRecord]:
        """Return users by name: those whose name sorts after ``after``."""
        rows = await self._db.fetch(
            'select * from api_user where lower(name) collate "C" > lower($2) order by lower(name) collate "C" limit $1', limit, after
        )
        return [UserRecord.of(row) for row in rows]

    async def change(self, user_id: str, changes: Mapping[str, Any], *, version: int | None = None) -> UserRecord:
        """Change fields of CHANGEABLE; a new password, or disabling, ends all sessions of the user.

        Raises:
            NotFoundError: there is no such user. StaleError: it has another version by now.
        """
        sets, values = assignments(changes, CHANGEABLE)
        async with self._db.transaction() as tx:
            rows = await tx.fetch("select version from api_user where user_id = $1 for update", parse_id(user_id))
            if not rows:
                raise no_user(user_id)
            if version is not None and rows[0]["version"] != version:
                raise StaleError(f"user {user_id}: has changed since it was read; read it again")
            rows = await tx.fetch(
                f"update api_user set {sets}version = version + 1 where user_id = $1 returning *", parse_id(user_id), *values
            )
            if _ENDS_SESSIONS & set(changes):
                await tx.execute("delete from api_session where user_id = $1", parse_id(user_id))
            await tx.fetch(TELL)
        return UserRecord.of(rows[0])

    async def remove(self, user_id: str) -> None:
        """Remove a user and end its sessions. Raises NotFoundError."""
        async with self._db.transaction() as tx:
            if not await tx.execute("delete from api_user where user_id = $1", parse_id(user_id)):
                raise no_user(user_id)
            await tx.fetch(TELL)

    async def logged_in(self, user_id: str, *, password: str | None = None) -> None:
        """Note a login; ``password`` is the same one, hashed as this release does it."""
        await self._db.execute(
            "update api_user set last_login_at = now(), password = coalesce($2, password) where user_id = $1", parse_id(user_id), password
        )


class SessionStore:
    """The table ``api_session``. Thread rule: one event loop; any number of processes."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def begin(
        self,
        session_sha256: bytes,
        *,
        lasts_s: float,
        user: UserRecord | None = None,
        key: KeyRecord | None = None,
        token_sha256: bytes | None = None,
    ) -> SessionRecord:
        """Store a session of a user, a key or the settings' token; those that have ended are swept away on the way."""
        await self._db.execute("delete from api_session where ends_at < now()")
        rows = await self._db.fetch(
            _BEGIN, session_sha256, parse_id(user.user_id) if user else None, parse_id(key.key_id) if key else None, token_sha256, lasts_s
        )
        return SessionRecord(user=user, key=key, token_sha256=token_sha256, **rows[0])

    async def find(self, session_sha256: bytes, *, idle_s: float) -> SessionRecord | None:
        """Return a session that is still good: neither too old nor unused for ``idle_s``."""
        rows = await self._db.fetch(
            "select * from api_session where session_sha256 = $1 and ends_at > now() and used_at > now() - make_interval(secs => $2)",
            session_sha256,
            idle_s,
        )
        if not rows:
            return None
        row = rows[0]
        users = await self._db.fetch("select * from api_user where user_id = $1", row["user_id"]) if row["user_id"] else []
        keys = await self._db.fetch(SELECT_KEY + "where k.key_id = $1", row["key_id"]) if row["key_id"] else []
        return SessionRecord(
            began_at=row["began_at"],
            ends_at=row["ends_at"],
            user=UserRecord.of(users[0]) if users else None,
            key=KeyRecord.of(keys[0]) if keys else None,
            token_sha256=row["token_sha256"],
        )

    async def touch(self, sessions: list[bytes]) -> None:
        """Note that sessions are used, at most once a minute each."""
        await self._db.execute(
            "update api_session set used_at = now() where session_sha256 = any($1::bytea[]) and used_at < now() - interval '1 minute'",
            sessions,
        )

    async def end(self, session_sha256: bytes) -> None:
        """End a session."""
        async with self._db.transaction() as tx:
            if await tx.execute("delete from api_session where session_sha256 = $1", session_sha256):
                await tx.fetch(TELL)


def no_user(user_id: str) -> NotFoundError:
    """Return the error for a user who is not there, or not for who asks."""
    return NotFoundError(f"user {user_id[:64]}: there is none")
