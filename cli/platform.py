"""The whole platform in one process: cameras, recognition, record and API around an in-process log."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from api.access.authenticator import Authenticator
from api.app import build_app, serve
from api.cameras.models import CameraView
from api.history.follow import History
from api.jobs.runner import JobRunner
from api.live.cameras import tell_cameras
from api.live.hub import EventHub
from api.live.views import Viewer
from api.recognize.cache import LookCache
from api.services import ApiServices
from api.system.models import ReadyCheck
from api.webhooks.dispatch import Dispatcher, dispatcher_of
from cli.compose import IN_PROCESS, Gallery, open_gallery
from cli.history import open_history_for, placing_of
from cli.jobs import job_runner
from cli.notify import notifying
from core.adapters.memory_log import MemoryLog
from core.errors import SettingsError, UnavailableError
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
from sightings.store import SightingStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """All rooms, composed. ``run`` brings them to life."""

    settings: Settings
    gallery: Gallery
    log: MemoryLog
    access: Authenticator
    events: EventHub
    cameras: CameraStore
    sightings: SightingStore
    ingest: IngestService
    recognize: RecognizeService
    record: SightingsService
    retention: Retention
    dispatcher: Dispatcher
    history: History
    looks: LookCache
    jobs: JobRunner

    async def run(self, stop: asyncio.Event) -> None:
        """Live until ``stop`` is set or a signal comes; then drain from the cameras to the record.

        Raises:
            SightlineError: a part has died; which one and why.
        """
        await run_services(
            [
                *([Service(name="persons", run=placing_of(self.settings, self.gallery).run)] if self.settings.history.persons else []),
                Service(name="ingest", run=self.ingest.run, drained=lambda: self.log.drained("frames.")),
                Service(name="recognize", run=self.recognize.run, drained=lambda: self.log.drained(SIGHTINGS_TOPIC)),
                Service(name="sightings", run=self.record.run, drained=self.events.caught_up),
                Service(name="retention", run=self.retention.run),
                Service(name="history", run=self.history.run),
                Service(name="jobs", run=self.jobs.run),
                Service(name="access", run=self.access.run),
                Service(name="result cache", run=lambda: self.looks.follow(self.gallery.db)),
                Service(name="camera events", run=lambda: tell_cameras(self.gallery.db, self.camera_views)),
                Service(name="live events", run=self.events.run),
                Service(name="webhooks", run=self.dispatcher.run),
                *notifying(self.settings, self.gallery.db, self.sightings, self.gallery.metrics),
                Service(name="api", run=self._serve),
            ],
            stop,
        )

    async def readiness(self) -> Sequence[ReadyCheck]:
        """Say of each thing that must work whether it does."""
        return [await self._database_check(), ReadyCheck(name="models", ok=True), await self._matcher_check()]

    async def camera_views(self) -> Sequence[CameraView]:
        """Return the cameras and how they are."""
        status = {s.camera: s for s in self.ingest.status()}
        views = []
        for camera in await self.cameras.list():
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

    async def _database_check(self) -> ReadyCheck:
        try:
            await self.gallery.db.fetch("select 1")
        except UnavailableError as err:
            return ReadyCheck(name="database", ok=False, reason=str(err))
        return ReadyCheck(name="database", ok=True)

    async def _matcher_check(self) -> ReadyCheck:
        problem = await self.gallery.matching.problem()
        return ReadyCheck(name="matcher", ok=not problem, reason=problem)

    async def _serve(self) -> None:
        gallery = self.gallery
        services = ApiServices(
            settings=self.settings,
            metrics=gallery.metrics,
            db=gallery.db,
            access=self.access,
            events=self.events,
            sightings=self.sightings,
            gallery=gallery.store,
            enroller=gallery.enroller,
            still=gallery.still,
            history=self.history,
            looks=self.looks,
            await_visible=gallery.matching.await_visible,
            policy=gallery.policy,
            book=gallery.book,
            matcher=gallery.matcher,
            objects=self.jobs.objects,
            readiness=self.readiness,
            cameras=self.camera_views,
        )
        async with serve(build_app(services)):
            await asyncio.Event().wait()


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
        log, live = MemoryLog(), LiveTracks()
        sightings = SightingStore(gallery.db, episode_gap=timedelta(seconds=settings.sightings.episode_gap_s))
        cameras = CameraStore(gallery.db, SecretBox(gallery.db.vault), allow=settings.outbound.camera_allow)

        async def camera_views() -> Sequence[CameraView]:
            return await platform.camera_views()

        events = EventHub(Viewer(db=gallery.db, sightings=sightings, cameras=camera_views))
        platform = Platform(
            settings=settings,
            gallery=gallery,
            log=log,
            access=Authenticator(gallery.db, settings, gallery.metrics),
            events=events,
            dispatcher=dispatcher_of(settings, events, gallery.metrics),
            cameras=cameras,
            sightings=sightings,
            ingest=IngestService(
                cameras, DirectPublisher(log, gallery.metrics), live=live, settings=settings.ingest, metrics=gallery.metrics
            ),
            recognize=RecognizeService(
                recognizer=gallery.recognizer(live),
                log=log,
                metrics=gallery.metrics,
                batch_frames=gallery.models.batch_frames(settings),
                on_finished=on_finished,
            ),
            record=SightingsService(log=log, store=sightings, metrics=gallery.metrics),
            history=history,
            looks=LookCache(most_bytes=settings.api.cache_bytes, metrics=gallery.metrics),
            jobs=job_runner(gallery),
            retention=Retention(db=gallery.db, classes=data_classes(settings), metrics=gallery.metrics),
        )
        yield platform
