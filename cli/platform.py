"""The whole platform in one process: cameras, recognition, record and API around an in-process log."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from api.cameras.models import CameraView
from api.jobs.runner import JobRunner
from api.services import ApiServices
from cli.compose import IN_PROCESS, Gallery, open_gallery
from cli.history import open_history_for
from cli.jobs import job_runner
from cli.notify import notifying
from cli.serving import api_parts, serving
from core.adapters.memory_log import MemoryLog
from core.errors import SettingsError
from core.live import LiveTracks
from core.runner import Service, run_services
from core.secrets import SecretBox
from core.settings import Settings
from ingest.cameras import CameraStore
from ingest.publish import DirectPublisher
from ingest.service import IngestService
from recognize.recognizer import Shown
from recognize.service import SIGHTINGS_TOPIC, RecognizeService
from sightings.retention import Retention, data_classes
from sightings.service import SightingsService


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """All rooms, composed. ``run`` brings them to life."""

    settings: Settings
    gallery: Gallery
    log: MemoryLog
    cameras: CameraStore
    ingest: IngestService
    recognize: RecognizeService
    record: SightingsService
    retention: Retention
    jobs: JobRunner
    parts: ApiServices
    """Behind the API: sightings and live events too."""

    async def run(self, stop: asyncio.Event) -> None:
        """Live until ``stop`` is set or a signal comes; then drain from the cameras to the record.

        Raises:
            SightlineError: a part has died; which one and why.
        """
        await run_services(
            [
                Service(name="ingest", run=self.ingest.run, drained=lambda: self.log.drained("frames.")),
                Service(name="recognize", run=self.recognize.run, drained=lambda: self.log.drained(SIGHTINGS_TOPIC)),
                Service(name="sightings", run=self.record.run, drained=self.parts.events.caught_up),
                Service(name="retention", run=self.retention.run),
                *notifying(self.settings, self.gallery.db, self.parts.sightings, self.gallery.metrics),
                *serving(self.parts, self.gallery, self.jobs),
            ],
            stop,
        )


@asynccontextmanager
async def open_platform(settings: Settings, *, on_finished: Callable[[Shown, float], None] | None = None) -> AsyncIterator[Platform]:
    """Compose the platform; nothing runs until ``Platform.run``.

    Args:
        settings: of the process.
        on_finished: a sensor, told each frame and when its sightings were acknowledged.

    Raises:
        SightlineError: what is missing, in one line.
    """
    for name, url in (("log_url", settings.log_url), ("broker_url", settings.broker_url)):
        if url != IN_PROCESS:
            raise SettingsError(
                f"{name}: names a server, but this is the whole platform in one process; "
                "run the parts of a fleet instead: ingest, recognize, match, sightings, api"
            )
    async with open_gallery(settings) as gallery, open_history_for(settings, gallery) as history:
        log, live, jobs = MemoryLog(), LiveTracks(), job_runner(gallery)
        cameras = CameraStore(gallery.db, SecretBox(gallery.db.vault), allow=settings.outbound.camera_allow)
        ingest = IngestService(cameras, DirectPublisher(log, gallery.metrics), live=live, settings=settings.ingest, metrics=gallery.metrics)
        parts = api_parts(gallery, history, jobs.objects, lambda: _camera_views(cameras, ingest))
        yield Platform(
            settings=settings,
            gallery=gallery,
            log=log,
            cameras=cameras,
            ingest=ingest,
            recognize=RecognizeService(
                recognizer=gallery.recognizer(live),
                log=log,
                metrics=gallery.metrics,
                batch_frames=gallery.models.batch_frames(settings),
                on_finished=on_finished,
            ),
            record=SightingsService(log=log, store=parts.sightings, metrics=gallery.metrics),
            retention=Retention(db=gallery.db, classes=data_classes(settings), metrics=gallery.metrics),
            jobs=jobs,
            parts=parts,
        )


async def _camera_views(cameras: CameraStore, ingest: IngestService) -> Sequence[CameraView]:
    """Return the cameras and how they are."""
    status = {s.camera: s for s in ingest.status()}
    views = []
    for camera in await cameras.list():
        now = status.get(camera.spec.name)
        views.append(
            CameraView.of(
                camera,
                state=now.state if now else "connecting",
                reason=now.reason if now else "",
                since=datetime.fromtimestamp(now.since_s, UTC) if now else None,
                frames_published=now.published if now else None,
            )
        )
    return views
