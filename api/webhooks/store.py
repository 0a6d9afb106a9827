"""The tables ``webhook`` and ``webhook_delivery``. Any number of processes work on them at once."""

import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from api.live.views import Groups
from api.principal import Principal
from api.webhooks.wants import FAILURES, Delivery, State, Wants, Webhook, granted_json, granted_of
from core.errors import ConflictError, NotFoundError, StaleError
from core.events import Event
from core.ports import Database
from core.sealing import SealedColumn
from core.vault import label_of
from sightings.cursor import Cursor

MAX_WEBHOOKS: Final = 100
SEALED: Final = tuple(
    SealedColumn(
        table="webhook",
        key="webhook_id",
        column=column,
        label=lambda row, column=column: label_of(f"webhook {column}", row["webhook_id"]),  # type: ignore[misc]
    )
    for column in ("url", "secret")
)
_ARRAYS = ("kinds", "cameras", "camera_groups", "watchlists", "collections")
_PLAIN = ("description", "every_revision", "enabled", "failures", "paused_until", "last_error", "delivered_at", "version", "created_at")
_SELECT = f"select webhook_id, url, granted, {', '.join((*_ARRAYS, *_PLAIN))} from webhook"
_DELIVERY = (
    "delivery_id, webhook_id, event_id, at, kind, key, revision, camera, collection, watchlist, state, attempts, queued_at, due_at, "
    "finished_at, status, error"
)
_ADD = f"""
insert into webhook (webhook_id, url, secret, granted, description, every_revision, enabled, {", ".join(_ARRAYS)})
select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 where (select count(*) from webhook) < {MAX_WEBHOOKS}
"""
_QUEUE = """
insert into webhook_delivery (webhook_id, event_id, at, kind, key, revision, camera, collection, watchlist)
select $1, * from unnest($2::bigint[], $3::timestamptz[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::text[])
on conflict (webhook_id, event_id) do
"""
_AGAIN = "state = 'waiting', attempts = 0, queued_at = now(), due_at = now(), finished_at = null"
_READY = f"""
{_SELECT} w where enabled and (paused_until is null or paused_until <= now())
and exists (select from webhook_delivery d where d.webhook_id = w.webhook_id and d.state = 'waiting' and d.due_at <= now())
"""
_CLAIM = f"""
update webhook_delivery set attempts = attempts + 1, due_at = now() + $3::interval
where delivery_id in (
    select delivery_id from webhook_delivery where webhook_id = $1 and state = 'waiting' and due_at <= now()
    order by due_at limit $2 for update skip locked)
returning {_DELIVERY}
"""
_FINISH = """
update webhook_delivery set state = $2, status = $3, error = $4, finished_at = now() where delivery_id = $1 and state = 'waiting'
"""
_LATER = """
update webhook_delivery
set state = case when queued_at < now() - $5::interval then 'dead' else 'waiting' end, due_at = now() + $4::interval,
    finished_at = case when queued_at < now() - $5::interval then now() end, status = $2, error = $3
where delivery_id = $1 and state = 'waiting' returning state
"""
_WELL = "update webhook set failures = 0, paused_until = null, last_error = null, delivered_at = now() where webhook_id = $1"
_ILL = "update webhook set failures = failures + 1, last_error = $2 where webhook_id = $1 returning failures"
_DIE = """
update webhook_delivery set state = 'dead', finished_at = now(), error = coalesce(error, 'not tried: the webhook is disabled or paused')
where state = 'waiting' and queued_at < now() - $1::interval
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an attempt."""

    state: State
    """``waiting``: it failed, and is tried again."""
    status: int | None = None
    error: str | None = None
    retry_s: float = 0.0


class WebhookStore:
    """Keeps webhooks. Thread rule: one event loop; any number of processes."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def add(self, url: str, wants: Wants, who: Principal, *, description: str, enabled: bool) -> tuple[Webhook, str]:
        """Store a webhook; return it with its secret, which is shown this once.

        Raises:
            ConflictError: there are MAX_WEBHOOKS.
        """
        key, secret = uuid.uuid4(), new_secret()
        sealed = (self._seal("url", key, url), self._seal("secret", key, secret))
        lists = [sorted(getattr(wants, name)) for name in _ARRAYS]
        added = await self._db.execute(_ADD, key, *sealed, granted_json(who), description, wants.every_revision, enabled, *lists)
        if not added:
            raise ConflictError(f"webhooks: there are {MAX_WEBHOOKS}, no more are kept; delete some")
        return await self.get(str(key), who), secret

    async def list(self, who: Principal) -> "list[Webhook]":
        """Return the webhooks that somebody may see, oldest first."""
        rows = await self._db.fetch(f"{_SELECT} order by created_at, webhook_id")
        return [one for row in rows if (one := self._webhook(row)).shown_to(who)]

    async def get(self, webhook_id: str, who: Principal) -> Webhook:
        """Return a webhook. Raises NotFoundError, also for one that who asks may not see."""
        rows = await self._db.fetch(f"{_SELECT} where webhook_id = $1", _key("webhook", webhook_id))
        if not rows or not (found := self._webhook(rows[0])).shown_to(who):
            raise _absent("webhook", webhook_id)
        return found

    async def change(self, webhook_id: str, changes: Mapping[str, Any], who: Principal, *, version: int | None) -> Webhook:
        """Change a webhook; a change takes it out of its pause.

        Raises:
            NotFoundError: no such webhook. StaleError: it has moved on.
        """
        async with self._db.transaction() as tx:
            store = WebhookStore(tx)
            before = await store._locked(webhook_id, who, version)
            values = dict(changes)
            if "url" in values:
                values["url"] = self._seal("url", uuid.UUID(before.webhook_id), values["url"])
            sets = [f"{column} = ${n}" for n, column in enumerate(values, 2)]  # columns are fields of a model, never text of a client
            await tx.execute(
                f"update webhook set {', '.join((*sets, 'version = version + 1', 'failures = 0', 'paused_until = null'))} "
                "where webhook_id = $1",
                uuid.UUID(before.webhook_id),
                *values.values(),
            )
            return await store.get(webhook_id, who)

    async def remove(self, webhook_id: str, who: Principal, *, version: int | None) -> None:
        """Remove a webhook with its deliveries. Raises NotFoundError, StaleError."""
        async with self._db.transaction() as tx:
            before = await WebhookStore(tx)._locked(webhook_id, who, version)
            await tx.execute("delete from webhook where webhook_id = $1", uuid.UUID(before.webhook_id))

    async def renew_secret(self, webhook_id: str, who: Principal) -> str:
        """Replace the secret and return the new one; the old one signs nothing any more. Raises NotFoundError."""
        key, secret = uuid.UUID((await self.get(webhook_id, who)).webhook_id), new_secret()
        sealed = self._seal("secret", key, secret)
        await self._db.execute("update webhook set secret = $2, version = version + 1 where webhook_id = $1", key, sealed)
        return secret

    async def secret(self, webhook_id: str) -> str | None:
        """Return the secret, None when the webhook is gone."""
        key = uuid.UUID(webhook_id)
        rows = await self._db.fetch("select secret from webhook where webhook_id = $1", key)
        return self._db.vault.open(rows[0]["secret"], label=label_of("webhook secret", key)).decode() if rows else None

    async def enabled(self) -> "Sequence[Webhook]":
        """Return those that want to hear."""
        return [self._webhook(row) for row in await self._db.fetch(f"{_SELECT} where enabled")]

    async def ready(self) -> "Sequence[Webhook]":
        """Return those to which something is due and that may be tried."""
        return [self._webhook(row) for row in await self._db.fetch(_READY)]

    async def _locked(self, webhook_id: str, who: Principal, version: int | None) -> Webhook:
        """Return a webhook that nobody else changes until the transaction ends. Raises NotFoundError, StaleError."""
        await self._db.fetch("select from webhook where webhook_id = $1 for update", _key("webhook", webhook_id))
        webhook = await self.get(webhook_id, who)
        if version is not None and version != webhook.version:
            raise StaleError(f"webhook {webhook.webhook_id}: it is at version {webhook.version}; read it again")
        return webhook

    def _seal(self, column: str, key: uuid.UUID, text: str) -> bytes:
        return self._db.vault.seal(text.encode(), label=label_of(f"webhook {column}", key))

    def _webhook(self, row: dict[str, Any]) -> Webhook:
        webhook_id = str(row["webhook_id"])
        wants: dict[str, Any] = {name: frozenset(row[name]) for name in _ARRAYS}
        return Webhook(
            webhook_id=webhook_id,
            url=self._db.vault.open(row["url"], label=label_of("webhook url", row["webhook_id"])).decode(),
            wants=Wants(**wants, every_revision=row["every_revision"]),
            granted=granted_of(webhook_id, row["granted"]),
            **{name: row[name] for name in _PLAIN if name != "every_revision"},
        )


class DeliveryStore:
    """Keeps deliveries. Thread rule: one event loop; any number of processes."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def queue(self, webhook: Webhook, events: Sequence[Event], groups: Groups, *, again: bool = False) -> int:
        """Queue those events that a webhook gets; an event is queued once, but ``again`` sends also what was sent.

        Returns:
            How many were queued.
        """
        mine = [event for event in events if webhook.gets(event, groups)]
        if not mine:
            return 0
        columns = ("event_id", "at", "kind", "key", "revision", "camera", "collection", "watchlist")
        values = ([getattr(event, column) for event in mine] for column in columns)
        return await self._db.execute(_QUEUE + (f"update set {_AGAIN}" if again else "nothing"), uuid.UUID(webhook.webhook_id), *values)

    async def add_test(self, webhook_id: str, *, lease: timedelta) -> Delivery:
        """Queue a test that the caller delivers now."""
        rows = await self._db.fetch(
            "insert into webhook_delivery (webhook_id, at, kind, key, revision, attempts, due_at) "
            f"values ($1, now(), 'test', 'test', 0, 1, now() + $2::interval) returning {_DELIVERY}",
            uuid.UUID(webhook_id),
            lease,
        )
        return _delivery(rows[0])

    async def get(self, webhook_id: str, delivery_id: str) -> Delivery:
        """Return a delivery. Raises NotFoundError."""
        rows = await self._db.fetch(
            f"select {_DELIVERY} from webhook_delivery where webhook_id = $1 and delivery_id = $2",
            uuid.UUID(webhook_id),
            _key("delivery", delivery_id),
        )
        if not rows:
            raise _absent("delivery", delivery_id)
        return _delivery(rows[0])

    async def claim(self, webhook_id: str, *, most: int, lease: timedelta) -> list[Delivery]:
        """Take deliveries that are due; nobody else takes them for the lease: if we die, they are tried again after it."""
        return [_delivery(row) for row in await self._db.fetch(_CLAIM, uuid.UUID(webhook_id), most, lease)]

    async def finish(self, delivery: Delivery, outcome: Outcome, *, give_up: timedelta) -> State:
        """Note what became of an attempt; return the delivery's state, ``dead`` when it has failed for too long."""
        key = uuid.UUID(delivery.delivery_id)
        if outcome.state != "waiting":
            await self._db.execute(_FINISH, key, outcome.state, outcome.status, outcome.error)
            return outcome.state
        wait = timedelta(seconds=outcome.retry_s)
        rows = await self._db.fetch(_LATER, key, outcome.status, outcome.error, wait, give_up)
        return rows[0]["state"] if rows else "delivered"

    async def note_well(self, webhook_id: str) -> None:
        """Note that the endpoint took something."""
        await self._db.execute(_WELL, uuid.UUID(webhook_id))

    async def note_ill(self, webhook_id: str, error: str) -> int:
        """Note that the endpoint failed, and return how often in a row."""
        rows = await self._db.fetch(_ILL, uuid.UUID(webhook_id), error)
        return rows[0]["failures"] if rows else 0

    async def pause(self, webhook_id: str, seconds: float) -> None:
        """Leave an endpoint alone for a while."""
        until = timedelta(seconds=seconds)
        await self._db.execute("update webhook set paused_until = now() + $2::interval where webhook_id = $1", uuid.UUID(webhook_id), until)

    async def list(self, webhook_id: str, *, state: State | None, limit: int, cursor: str | None) -> "tuple[list[Delivery], str | None]":
        """Return a page of deliveries, newest event first, and the next cursor. Raises UsageError: a cursor that is none of ours."""
        behind = Cursor.decode(cursor) if cursor else None
        rows = await self._db.fetch(
            f"select {_DELIVERY} from webhook_delivery where webhook_id = $1 and ($2::text is null or state = $2) "
            "and ($3::timestamptz is null or (at, delivery_id) < ($3, $4::uuid)) order by at desc, delivery_id desc limit $5",
            uuid.UUID(webhook_id),
            state,
            behind and behind.at,
            behind and behind.row_id,
            limit + 1,
        )
        last = rows[limit - 1] if len(rows) > limit else None
        return [_delivery(row) for row in rows[:limit]], Cursor(last["at"], last["delivery_id"]).encode() if last else None

    async def replay(self, webhook_id: str, delivery_id: str) -> Delivery:
        """Queue a delivery once more, whatever became of it. Raises NotFoundError."""
        rows = await self._db.fetch(
            f"update webhook_delivery set {_AGAIN} where webhook_id = $1 and delivery_id = $2 returning {_DELIVERY}",
            uuid.UUID(webhook_id),
            _key("delivery", delivery_id),
        )
        if not rows:
            raise _absent("delivery", delivery_id)
        return _delivery(rows[0])

    async def waiting(self) -> int:
        """Return how many deliveries wait."""
        return int((await self._db.fetch("select count(*) as n from webhook_delivery where state = 'waiting'"))[0]["n"])

    async def tidy(self, *, give_up: timedelta, keep: timedelta) -> int:
        """Give up what has waited for too long, delete what is finished and old; return how many were given up."""
        dead = await self._db.execute(_DIE, give_up)
        await self._db.execute("delete from webhook_delivery where state <> 'waiting' and finished_at < now() - $1::interval", keep)
        return dead


def new_secret() -> str:
    """Return a secret: 32 random bytes behind a prefix by which scanners of leaked secrets know it."""
    return f"whsec_{secrets.token_urlsafe(32)}"


def half_open(webhook: Webhook) -> bool:
    """Tell whether an endpoint has failed so often that it is tried with one delivery at a time."""
    return webhook.failures >= FAILURES


def _delivery(row: dict[str, Any]) -> Delivery:
    return Delivery(**row | {"delivery_id": str(row["delivery_id"]), "webhook_id": str(row["webhook_id"])})


def _key(kind: str, text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise _absent(kind, text) from None


def _absent(kind: str, text: str) -> NotFoundError:
    return NotFoundError(f"{kind} {text[:64]}: there is none")
