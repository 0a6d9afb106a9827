"""Webhooks: what happens, posted to other systems."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from api.errors import ForbiddenError, sensible
from api.live.views import NEEDS
from api.notes import note
from api.principal import Principal, principal
from api.route import answer, expected_version
from api.services import services
from api.uploads import read_json, read_query
from api.webhooks.dispatch import LEASE, dispatcher_of
from api.webhooks.models import (
    DeliveryPage,
    DeliveryQuery,
    DeliveryView,
    NewWebhook,
    ReplayAnswer,
    ReplayRange,
    SecretView,
    WebhookCreated,
    WebhookList,
    WebhookPatch,
    WebhookRemoved,
    WebhookView,
)
from api.webhooks.post import open_poster
from api.webhooks.store import DeliveryStore, WebhookStore
from api.webhooks.wants import Wants, Webhook
from core.events import PAGE, Event
from core.outbound import require_public

MAX_REPLAY = 20 * PAGE  # events that one request looks at
_LISTS = ("kinds", "cameras", "camera_groups", "watchlists", "collections")
_RANGE = """
select event_id, at, kind, key, revision, camera, collection, watchlist, news from event
where at >= $1 and ($2::timestamptz is null or at < $2) and event_id > $3 order by event_id limit $4
"""


async def list_webhooks(request: web.Request) -> web.Response:
    """Return the webhooks that who asks may see."""
    found = await _webhooks(request).list(principal(request))
    return answer(WebhookList(webhooks=[WebhookView.of(one) for one in found]))


async def create_webhook(request: web.Request) -> web.Response:
    """Make a webhook and return its secret."""
    body, who = await read_json(request, NewWebhook), principal(request)
    _require_kinds(who, body.kinds)
    await _require_public(request, body.url)
    lists: dict[str, Any] = {name: frozenset(getattr(body, name)) for name in _LISTS}
    wants = Wants(**lists, every_revision=body.every_revision)
    made, secret = await _webhooks(request).add(body.url, wants, who, description=body.description, enabled=body.enabled)
    note(request, webhook=made.webhook_id)
    response = answer(WebhookCreated.with_secret(made, secret), status=201, version=made.version)
    response.headers["Location"] = f"/v1/webhooks/{made.webhook_id}"
    return response


async def get_webhook(request: web.Request) -> web.Response:
    """Return one webhook."""
    return _shown(await _webhook(request))


async def update_webhook(request: web.Request) -> web.Response:
    """Change a webhook."""
    body, who = await read_json(request, WebhookPatch), principal(request)
    changes = {name: getattr(body, name) for name in sorted(body.model_fields_set)}
    if "kinds" in changes:
        _require_kinds(who, changes["kinds"])
    if "url" in changes:
        await _require_public(request, changes["url"])
    changes |= {name: sorted(set(changes[name])) for name in _LISTS if name in changes}
    note(request, webhook=request.match_info["webhook_id"], changed=sorted(changes))
    return _shown(await _webhooks(request).change(request.match_info["webhook_id"], changes, who, version=expected_version(request)))


async def delete_webhook(request: web.Request) -> web.Response:
    """Remove a webhook with its deliveries."""
    webhook_id = request.match_info["webhook_id"]
    await _webhooks(request).remove(webhook_id, principal(request), version=expected_version(request))
    note(request, webhook=webhook_id)
    return answer(WebhookRemoved(webhook_id=webhook_id))


async def renew_webhook_secret(request: web.Request) -> web.Response:
    """Replace the secret of a webhook."""
    webhook_id = request.match_info["webhook_id"]
    secret = await _webhooks(request).renew_secret(webhook_id, principal(request))
    note(request, webhook=webhook_id)
    return answer(SecretView(secret=secret))


async def test_webhook(request: web.Request) -> web.Response:
    """Post a test now, and say what became of it; it is not tried again."""
    webhook, parts = await _webhook(request), services(request)
    note(request, webhook=webhook.webhook_id)
    deliveries = DeliveryStore(parts.db)
    delivery = await deliveries.add_test(webhook.webhook_id, lease=LEASE)
    dispatcher = replace(dispatcher_of(parts.settings, parts.events, parts.metrics), give_up=timedelta(0))
    async with open_poster(dispatcher.allow) as poster:
        await dispatcher.attempt(poster, webhook, delivery)
    return answer(DeliveryView.of(await deliveries.get(webhook.webhook_id, delivery.delivery_id)))


async def list_deliveries(request: web.Request) -> web.Response:
    """Return a page of deliveries."""
    query, webhook = read_query(request, DeliveryQuery), await _webhook(request)
    with sensible():
        found, cursor = await DeliveryStore(services(request).db).list(
            webhook.webhook_id, state=query.state, limit=query.limit, cursor=query.cursor
        )
    return answer(DeliveryPage(deliveries=[DeliveryView.of(one) for one in found], next_cursor=cursor))


async def replay_delivery(request: web.Request) -> web.Response:
    """Queue a delivery once more."""
    webhook = await _webhook(request)
    delivery = await DeliveryStore(services(request).db).replay(webhook.webhook_id, request.match_info["delivery_id"])
    note(request, webhook=webhook.webhook_id, delivery=delivery.delivery_id)
    return answer(DeliveryView.of(delivery), status=202)


async def replay_webhook(request: web.Request) -> web.Response:
    """Queue what was told in a stretch of time, sent before or not."""
    body, webhook, parts = await read_json(request, ReplayRange), await _webhook(request), services(request)
    queued, after, looked, last = 0, 0, 0, None
    while looked < MAX_REPLAY:
        with sensible():  # times that only other calendars know
            events = [Event(**row) for row in await parts.db.fetch(_RANGE, body.since, body.until, after, PAGE)]
        if not events:
            break
        groups = await parts.events.viewer.groups(events)
        queued += await DeliveryStore(parts.db).queue(webhook, events, groups, again=True)
        after, last, looked = events[-1].event_id, events[-1].at, looked + len(events)
    note(request, webhook=webhook.webhook_id, queued=queued)
    following: datetime | None = last if looked >= MAX_REPLAY else None
    return answer(ReplayAnswer(queued=queued, complete=following is None, next=following), status=202)


def _webhooks(request: web.Request) -> WebhookStore:
    return WebhookStore(services(request).db)


async def _webhook(request: web.Request) -> Webhook:
    return await _webhooks(request).get(request.match_info["webhook_id"], principal(request))


def _shown(webhook: Webhook) -> web.Response:
    return answer(WebhookView.of(webhook), version=webhook.version)


def _require_kinds(who: Principal, kinds: list[Any]) -> None:
    lacking = sorted({NEEDS[kind] for kind in kinds if not who.may(NEEDS[kind])})
    if lacking:
        raise ForbiddenError(f"{who.name} ({who.role}) may not have these kinds sent: it needs {', '.join(lacking)}")


async def _require_public(request: web.Request, url: str) -> None:
    await require_public(url, allow=services(request).settings.outbound.webhook_allow)
