"""Which cameras hold a live track: the recognizer says so, the gate of that camera stays open at a low rate.

In one process both sides share a LiveTracks. In a fleet each has its own: ``publish_holds`` runs beside the recognizer, ``follow_holds``
beside the cameras, and between them go LiveHolds messages. A message that is lost does no harm: while the track lives the next one is
half a second away, and a hold that nobody renews lapses by itself.
"""

import asyncio
from collections.abc import Sequence

import structlog

from core.errors import MessageError, UnavailableError
from core.ports import Broker, QueueSpec, Subscription
from core.schema import LiveHolds, decode, encode
from core.topology import LIVE_EXCHANGE

PUBLISH_S = 0.5  # a gate keeps itself open for about a second after the last motion: half of that is soon enough
RETRY_S = 1.0  # between attempts to subscribe while the broker is away
EVERY_REGION = "#"  # AMQP's wildcard

log = structlog.get_logger("live")


class LiveTracks:
    """Holds per camera, each until a capture time. Thread rule: written on the event loop, read by camera threads."""

    def __init__(self) -> None:
        self._until_s: dict[str, float] = {}
        self._changed: dict[str, str] = {}

    def hold(self, camera: str, until_s: float, *, region: str = "default") -> None:
        """Keep the camera's gate open until this capture time (Unix seconds). The region is where other processes are told."""
        if self._until_s.get(camera) != until_s:
            self._until_s[camera] = until_s
            self._changed[camera] = region

    def held(self, camera: str, now_s: float) -> bool:
        """Return whether a track of the camera is alive at now_s."""
        return now_s < self._until_s.get(camera, float("-inf"))

    def changes(self) -> list[LiveHolds]:
        """Return what ``hold`` changed since the last call, one message per region."""
        changed, self._changed = self._changed, {}
        by_region: dict[str, dict[str, float]] = {}
        for camera, region in changed.items():
            by_region.setdefault(region, {})[camera] = self._until_s[camera]
        return [LiveHolds(region=region, until_s=until_s) for region, until_s in by_region.items()]

    def follow(self, holds: LiveHolds) -> None:
        """Take over what another process holds; it is not told on."""
        self._until_s.update(holds.until_s)


async def publish_holds(live: LiveTracks, broker: Broker) -> None:
    """Tell the ingesters which cameras hold a live track, until cancelled: only changes, at most every PUBLISH_S.

    A broker that is away costs the holds of that time, nothing else.
    """
    away = False
    while True:
        await asyncio.sleep(PUBLISH_S)
        try:
            for holds in live.changes():
                await broker.publish(LIVE_EXCHANGE, holds.region, encode(holds), expires_s=2 * PUBLISH_S, confirm=False)
        except UnavailableError as err:
            if not away:
                log.warning("cameras are not told of live tracks: the broker is away", error=str(err))
            away = True
        else:
            away = False


async def follow_holds(live: LiveTracks, broker: Broker, regions: Sequence[str] = ()) -> None:
    """Follow the recognizers' live tracks, until cancelled.

    Args:
        live: what the cameras of this process look at.
        broker: where the messages come from.
        regions: only these; empty = all.
    """
    keys = tuple(regions) or (EVERY_REGION,)
    queue = QueueSpec(name="", bindings=tuple((LIVE_EXCHANGE, "topic", key) for key in keys))
    away = False
    while True:
        try:
            async with broker.subscribe(queue) as subscription:
                away = False
                await _follow(live, subscription)
        except UnavailableError as err:
            if not away:
                log.warning("live tracks are not followed: the broker is away", error=str(err))
            away = True
        await asyncio.sleep(RETRY_S)


async def _follow(live: LiveTracks, subscription: Subscription) -> None:
    while True:
        delivery = await subscription.get()
        try:
            live.follow(decode(LiveHolds, delivery.body)[0])
        except MessageError as err:
            log.warning("a message of live tracks can't be read", error=str(err))
            subscription.reject(delivery, requeue=False)
        else:
            subscription.ack(delivery)
