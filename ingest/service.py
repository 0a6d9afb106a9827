"""All cameras of a process: start, stop and change them while everything runs, and say how each is doing."""

import asyncio
from collections.abc import Sequence

import structlog

from core.errors import SettingsError, UnavailableError
from core.live import LiveTracks
from core.metrics import Metrics
from core.settings import IngestSettings
from ingest.camera import CameraStatus, CameraWorker
from ingest.cameras import Cameras
from ingest.capture import CameraConfig, CaptureContext
from ingest.publish import Publisher

FOLLOW_S = 2.0  # a camera that was added or disabled is followed within this time; one small query

log = structlog.get_logger("ingest")


class IngestService:
    """Runs the cameras. Thread rule: event loop."""

    def __init__(self, cameras: Cameras, publisher: Publisher, *, live: LiveTracks, settings: IngestSettings, metrics: Metrics) -> None:
        self._cameras, self._publisher, self._settings = cameras, publisher, settings
        self._context = CaptureContext(live=live, metrics=metrics)
        self._workers: dict[str, CameraWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._problem = ""
        self._refresh = asyncio.Event()
        self._idle = asyncio.Event()

    def status(self) -> list[CameraStatus]:
        """Return how each camera is doing, by name."""
        return [self._workers[name].status() for name in sorted(self._workers)]

    def refresh(self) -> None:
        """Look at the list of cameras now instead of within FOLLOW_S."""
        self._refresh.set()

    async def ended(self) -> None:
        """Return once every camera is a recording that is over (or there is none)."""
        await self._idle.wait()

    async def run(self) -> None:
        """Run the cameras until cancelled, then stop them and publish what they hold.

        Raises:
            ExceptionGroup: a camera's thread died of a fault of ours; camera and network trouble never ends here.
        """
        async with asyncio.TaskGroup() as group:
            while True:
                self._refresh.clear()
                await self._follow(group)
                self._note_idle()
                try:
                    async with asyncio.timeout(FOLLOW_S):
                        await self._refresh.wait()
                except TimeoutError:
                    continue

    async def _follow(self, group: asyncio.TaskGroup) -> None:
        """Bring the running cameras in line with the list; with no list to be had, they go on as they are."""
        try:
            wanted = {spec.name: spec.config(self._settings) for spec in await self._cameras.enabled()}
            await self._stop([name for name, worker in self._workers.items() if wanted.get(name) != worker.config])
            for config in wanted.values():
                if config.name not in self._workers:
                    self._start(group, config)
            await self._cameras.settled(self.status())
        except (UnavailableError, SettingsError) as err:
            if str(err) != self._problem:
                log.warning("the list of cameras can't be read; those that run go on", error=str(err))
            self._problem = str(err)
        else:
            self._problem = ""

    async def _stop(self, names: Sequence[str]) -> None:
        tasks = [self._tasks[name] for name in names]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for name in names:
            log.info("camera stopped", camera=name)
            self._context.metrics.camera_up.remove(name, self._workers[name].config.region)  # it may run elsewhere now
            del self._workers[name], self._tasks[name]

    def _start(self, group: asyncio.TaskGroup, config: CameraConfig) -> None:
        worker = CameraWorker(config, self._context, self._publisher)
        self._workers[config.name] = worker
        self._tasks[config.name] = task = group.create_task(worker.run(), name=f"camera-{config.name}")
        task.add_done_callback(lambda _: self._note_idle())
        log.info("camera started", camera=config.name, region=config.region, url=worker.status().url)

    def _note_idle(self) -> None:
        if all(task.done() for task in self._tasks.values()):
            self._idle.set()
        else:
            self._idle.clear()
