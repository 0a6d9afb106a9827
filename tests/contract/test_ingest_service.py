"""The ingest service over the in-process log, with real recordings as cameras."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from core.adapters.memory_log import MemoryLog
from core.errors import UnavailableError
from core.jpeg import decode_jpeg
from core.live import LiveTracks
from core.metrics import Metrics
from core.schema import FrameHeader, decode
from core.settings import IngestSettings
from ingest.cameras import CameraSpec, FixedCameras
from ingest.publish import DirectPublisher
from ingest.service import IngestService
from tests.builders.clips import write_clip


class Platform:
    """A service, its log and a consumer that finishes every frame."""

    def __init__(self, *specs: CameraSpec, log: MemoryLog | None = None) -> None:
        self.cameras = FixedCameras(specs)
        self.metrics = Metrics()
        self.log = log or MemoryLog()
        self.service = IngestService(
            self.cameras,
            DirectPublisher(self.log, self.metrics),
            live=LiveTracks(),
            settings=IngestSettings(max_fps=25, heartbeat_s=0.3),
            metrics=self.metrics,
        )
        self.headers: list[FrameHeader] = []
        self.jpegs: list[bytes] = []

    async def consume(self) -> None:
        async with self.log.consumer(["frames.*"], "test") as consumer:
            while True:
                records = await consumer.poll(16, 0.05)
                for record in records:
                    header, jpeg = decode(FrameHeader, record.value)
                    assert (record.key, record.topic) == (header.camera, f"frames.{header.region}")
                    self.headers.append(header)
                    self.jpegs.append(bytes(jpeg))
                await consumer.commit(records)

    def value(self, name: str, camera: str) -> float:
        return self.metrics.registry.get_sample_value(name, {"camera": camera, "region": "default"}) or 0.0

    async def until(self, condition) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - watches threads and counters from outside
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(platform: Platform) -> AsyncIterator[Platform]:
    tasks = [asyncio.create_task(platform.consume()), asyncio.create_task(platform.service.run())]
    await asyncio.sleep(0)
    try:
        yield platform
    finally:
        for task in reversed(tasks):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", frames=15, fps=25)


async def test_a_recording_runs_to_its_end_and_every_gated_frame_is_published(clip: Path) -> None:
    async with running(Platform(CameraSpec(name="a", url=str(clip)))) as platform:
        async with asyncio.timeout(20):
            await platform.service.ended()
        (status,) = platform.service.status()
        await platform.until(lambda: len(platform.headers) == status.published)
    assert (status.state, status.decoded, status.dropped, status.damaged) == ("ended", 15, 0, 0)
    assert status.published == platform.value("sightline_ingest_frames_published_total", "a") > 5
    session = platform.headers[0].frame_id.split("/")[1]
    assert [header.frame_id for header in platform.headers] == [f"a/{session}/{number}" for number in range(len(platform.headers))]
    assert [header.captured_s for header in platform.headers] == sorted(header.captured_s for header in platform.headers)
    assert all(header.published_s >= header.captured_s for header in platform.headers)
    image = decode_jpeg(platform.jpegs[0])
    assert image.shape == (64, 96, 3)
    assert abs(int(image[5, 90, 0]) - 200) < 12


async def test_cameras_come_change_and_go_while_the_others_run(clip: Path) -> None:
    async with running(Platform(CameraSpec(name="a", url=str(clip), loop=True))) as platform:
        await platform.until(lambda: platform.headers)
        session = platform.headers[0].frame_id.split("/")[1]
        platform.cameras.specs += (CameraSpec(name="b", url=str(clip), loop=True),)
        platform.service.refresh()
        await platform.until(lambda: any(header.camera == "b" for header in platform.headers))
        platform.cameras.specs = (CameraSpec(name="a", url=str(clip), loop=True, max_fps=5),)
        platform.service.refresh()
        await platform.until(lambda: [status.camera for status in platform.service.status()] == ["a"])
        await platform.until(lambda: platform.headers[-1].frame_id.split("/")[1] != session)


async def test_a_camera_in_trouble_says_why_and_hurts_no_other(clip: Path) -> None:
    bad = CameraSpec(name="bad", url="rtsp://admin:geheim@127.0.0.1:9/x")
    async with running(Platform(bad, CameraSpec(name="good", url=str(clip), loop=True))) as platform:
        await platform.until(lambda: platform.headers and any(s.state == "retrying" for s in platform.service.status()))
        status = platform.service.status()[0]
        assert platform.value("sightline_ingest_camera_up", "good") == 1.0
    assert (status.camera, status.state) == ("bad", "retrying")
    assert "connection refused" in status.reason
    assert "geheim" not in repr(status)
    assert status.reconnects >= 1


async def test_a_slow_consumer_costs_the_oldest_frames_and_they_are_counted(clip: Path) -> None:
    platform = Platform(CameraSpec(name="a", url=str(clip), loop=True), log=MemoryLog(capacity=1))
    async with platform.log.consumer(["frames.default"], "nobody"):  # keeps the log full: it takes one frame and no more
        service = asyncio.create_task(platform.service.run())
        await platform.until(lambda: platform.value("sightline_ingest_frames_dropped_total", "a") > 3)
        service.cancel()
        with suppress(asyncio.CancelledError):
            await service
    assert platform.value("sightline_ingest_frames_published_total", "a") == 1


def gapless(headers: list[FrameHeader]) -> bool:
    """Whether the numbers of each session are 0, 1, 2, ... in the order of the log."""
    sessions: dict[str, list[int]] = {}
    for header in headers:
        session, _, number = header.frame_id.rpartition("/")
        sessions.setdefault(session, []).append(int(number))
    return all(numbers == list(range(len(numbers))) for numbers in sessions.values())


async def test_frames_are_numbered_when_they_are_accepted_so_drops_leave_no_gap(clip: Path) -> None:
    platform = Platform(CameraSpec(name="a", url=str(clip), loop=True), log=MemoryLog(capacity=1))
    async with platform.log.consumer(["frames.*"], "test") as consumer:
        service = asyncio.create_task(platform.service.run())
        for _ in range(6):  # a consumer that is slower than the camera
            await platform.until(lambda: platform.log.depth("frames.") == 1)
            dropped = platform.value("sightline_ingest_frames_dropped_total", "a")
            await platform.until(lambda: platform.value("sightline_ingest_frames_dropped_total", "a") > dropped)  # noqa: B023 - called at once
            records = await consumer.poll(8, 1.0)
            platform.headers += [decode(FrameHeader, record.value)[0] for record in records]
            await consumer.commit(records)
        service.cancel()
        with suppress(asyncio.CancelledError):
            await service
    assert platform.value("sightline_ingest_frames_dropped_total", "a") >= 6
    assert len(platform.headers) >= 6
    assert gapless(platform.headers)


class LogThatComesBack(MemoryLog):
    """Away for the first calls, as a broker that restarts."""

    failures = 2

    async def publish(self, topic: str, key: str, value: bytes) -> None:
        if self.failures:
            self.failures -= 1
            raise UnavailableError("the broker is away")
        await super().publish(topic, key, value)


async def test_frames_wait_while_the_log_is_away(clip: Path) -> None:
    async with running(Platform(CameraSpec(name="a", url=str(clip)), log=LogThatComesBack())) as platform:
        async with asyncio.timeout(20):
            await platform.service.ended()
        await platform.until(lambda: platform.headers)
        (status,) = platform.service.status()
    assert status.published + status.dropped == sum(
        platform.metrics.registry.get_sample_value(
            "sightline_ingest_frames_gated_total", {"camera": "a", "region": "default", "reason": reason}
        )
        or 0
        for reason in ("motion", "hold", "heartbeat")
    )


class CamerasThatVanish(FixedCameras):
    """A database that goes away after the first look."""

    looks = 0

    async def enabled(self):
        self.looks += 1
        if self.looks > 1:
            raise UnavailableError("the database is away")
        return await super().enabled()


async def test_running_cameras_outlive_the_database(clip: Path) -> None:
    platform = Platform()
    platform.service = IngestService(
        CamerasThatVanish([CameraSpec(name="a", url=str(clip), loop=True)]),
        DirectPublisher(platform.log, platform.metrics),
        live=LiveTracks(),
        settings=IngestSettings(heartbeat_s=0.2),
        metrics=platform.metrics,
    )
    async with running(platform):
        await platform.until(lambda: platform.headers)
        platform.service.refresh()
        seen = len(platform.headers)
        await platform.until(lambda: len(platform.headers) > seen + 3)
