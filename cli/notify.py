"""Composition of what is published over MQTT, with the names for Frigate's events."""

from core.metrics import Metrics
from core.ports import Database
from core.runner import Service
from core.secrets import SecretBox
from core.settings import Settings
from ingest.cameras import CameraStore
from sightings.notify.frigate import open_frigate
from sightings.notify.mqtt import MqttNotifier
from sightings.store import SightingStore


def notifying(settings: Settings, db: Database, sightings: SightingStore, metrics: Metrics) -> list[Service]:
    """Return the service that publishes over MQTT; none when the settings name no broker."""
    if settings.mqtt.url is None:
        return []

    async def publish() -> None:
        async with open_frigate(settings.frigate, sightings, metrics) as frigate:
            names = CameraStore(db, SecretBox(db.vault)).names
            await MqttNotifier(db=db, sightings=sightings, settings=settings.mqtt, cameras=names, metrics=metrics, frigate=frigate).run()

    return [Service(name="mqtt", run=publish)]
