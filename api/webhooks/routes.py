"""Routes of this area."""

from functools import partial

from api.route import Route
from api.webhooks import handlers, models

_WEBHOOK = "/v1/webhooks/{webhook_id}"
_route = partial(Route, tag="webhooks", needs="webhooks.write")

ROUTES: tuple[Route, ...] = (
    _route(
        method="GET",
        path="/v1/webhooks",
        handler=handlers.list_webhooks,
        summary="List webhooks",
        answers={200: models.WebhookList},
    ),
    _route(
        method="POST",
        path="/v1/webhooks",
        handler=handlers.create_webhook,
        audit="webhook.create",
        summary="Make a webhook",
        description="It delivers what its maker may see, and no more. The secret is shown this once.",
        body=models.NewWebhook,
        answers={201: models.WebhookCreated},
        errors=(409, 422),
    ),
    _route(method="GET", path=_WEBHOOK, handler=handlers.get_webhook, summary="Show a webhook", answers={200: models.WebhookView}),
    _route(
        method="PATCH",
        path=_WEBHOOK,
        handler=handlers.update_webhook,
        audit="webhook.update",
        summary="Change a webhook",
        body=models.WebhookPatch,
        answers={200: models.WebhookView},
        errors=(409, 412, 422),
    ),
    _route(
        method="DELETE",
        path=_WEBHOOK,
        handler=handlers.delete_webhook,
        audit="webhook.delete",
        summary="Remove a webhook with its deliveries",
        answers={200: models.WebhookRemoved},
        errors=(412,),
    ),
    _route(
        method="POST",
        path=f"{_WEBHOOK}/secret",
        handler=handlers.renew_webhook_secret,
        audit="webhook.secret",
        summary="Replace the secret of a webhook",
        description="The old one signs nothing any more.",
        answers={200: models.SecretView},
    ),
    _route(
        method="POST",
        path=f"{_WEBHOOK}/test",
        handler=handlers.test_webhook,
        audit="webhook.test",
        summary="Post a test to a webhook now",
        description="The answer says what became of it, with 200 also when it failed; it is not tried again.",
        answers={200: models.DeliveryView},
    ),
    _route(
        method="GET",
        path=f"{_WEBHOOK}/deliveries",
        handler=handlers.list_deliveries,
        summary="List what was and is to be delivered",
        query=models.DeliveryQuery,
        answers={200: models.DeliveryPage},
        errors=(422,),
    ),
    _route(
        method="POST",
        path=f"{_WEBHOOK}/deliveries/{{delivery_id}}/replay",
        handler=handlers.replay_delivery,
        audit="webhook.replay",
        summary="Deliver something once more",
        answers={202: models.DeliveryView},
    ),
    _route(
        method="POST",
        path=f"{_WEBHOOK}/replay",
        handler=handlers.replay_webhook,
        audit="webhook.replay",
        summary="Deliver what happened since a time, sent before or not",
        body=models.ReplayRange,
        answers={202: models.ReplayAnswer},
        errors=(422,),
    ),
)
