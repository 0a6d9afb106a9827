"""A camera's thread, without threads: sources are scripts and time passes only when somebody waits."""

import threading
from collections.abc import Sequence
from itertools import pairwise

import pytest
from prometheus_client import CollectorRegistry

from core.errors import NotFoundError, UnavailableError, UnreadableMediaError
from core.jpeg import decode_jpeg
from core.live import LiveTracks
from core.metrics import Metrics
from core.schema import FrameHeader
from ingest.capture import CameraConfig, Capture, CaptureContext
from ingest.gate import GateSettings
from ingest.outbox import GatedFrame
from tests.builders.clips import FakeClock, ScriptedSource

Script = ScriptedSource | Exception


class Run:
    """One capture over a script of connections."""

    def __init__(self, connections: Sequence[Script], *, loop: bool = False, waits: int | None = None) -> None:
        self.clock = FakeClock(stop_after=waits)
        self.live = LiveTracks()
        self.metrics = Metrics()
        self.frames: list[GatedFrame] = []
        self.opened = 0
        self._connections = list(connections)
        config = CameraConfig(name="door", url="rtsp://a:geheim@cam/1", region="west", loop=loop, gate=GateSettings(heartbeat_s=1.0))
        context = CaptureContext(live=self.live, metrics=self.metrics, clock=self.clock, open_frames=self._open)
        self.capture = Capture(config, context, hand_over=self._take)
        self.stop = threading.Event()

    def _open(self, url: str, options: object) -> ScriptedSource:
        self.opened += 1
        connection = self._connections.pop(0) if len(self._connections) > 1 else self._connections[0]
        if isinstance(connection, Exception):
            raise connection
        return connection

    def _take(self, frame: GatedFrame) -> int:
        self.frames.append(frame)
        return 0

    def play(self) -> "Run":
        self.capture.run(self.stop)
        return self

    @property
    def headers(self) -> list[FrameHeader]:
        return [frame.header for frame in self.frames]

    def metric(self, name: str, **labels: str) -> float:
        registry: CollectorRegistry = self.metrics.registry
        return registry.get_sample_value(name, {"camera": "door", "region": "west", **labels}) or 0.0


def recording(count: int = 30, level: int = 100) -> ScriptedSource:
    return ScriptedSource([(7.0 + number / 10, level) for number in range(count)], live=False)


def stream(count: int = 5, *, end: Exception | None = None) -> ScriptedSource:
    return ScriptedSource([(number / 10, 100) for number in range(count)], live=True, end=end)


def test_a_recording_is_played_in_real_time_and_ends() -> None:
    run = Run([recording()]).play()
    assert run.capture.progress.state == "ended"
    assert run.clock.unix_s == pytest.approx(1_000_002.9)
    assert run.capture.progress.decoded == 30
    assert run.headers[0].captured_s == 1_000_000.0


def test_headers_carry_reason_and_size_and_no_id_until_accepted() -> None:
    run = Run([recording()]).play()
    assert [header.frame_id for header in run.headers] == ["", "", ""]
    assert [header.reason for header in run.headers] == ["motion", "heartbeat", "heartbeat"]
    assert run.headers[0].scene_cut
    assert (run.headers[0].camera, run.headers[0].region, run.headers[0].width_px, run.headers[0].height_px) == ("door", "west", 64, 48)
    assert decode_jpeg(run.frames[0].jpeg).shape == (48, 64, 3)


def test_every_frame_is_counted_with_the_gates_reason() -> None:
    run = Run([recording()]).play()
    by_reason = {reason: run.metric("sightline_ingest_frames_gated_total", reason=reason) for reason in ("motion", "heartbeat", "still")}
    assert by_reason == {"motion": 1, "heartbeat": 2, "still": 27}
    assert run.metric("sightline_ingest_frames_decoded_total") == 30


def test_a_looping_recording_goes_on_without_a_gap() -> None:
    run = Run([recording(), recording(), UnavailableError("enough")], loop=True, waits=62).play()
    times = [header.captured_s for header in run.headers]
    assert run.capture.progress.decoded >= 60
    assert all(later > earlier for earlier, later in pairwise(times))
    assert [header.scene_cut for header in run.headers].count(True) == 1


def test_a_stream_that_ends_is_tried_again_and_gets_new_frames() -> None:
    run = Run([stream(), stream()], waits=3).play()
    assert run.opened >= 2
    assert run.metric("sightline_ingest_reconnects_total", cause="eof") >= 2
    assert run.capture.progress.decoded >= 10


def test_waits_grow_while_nothing_comes_and_start_small_after_a_frame() -> None:
    away = UnavailableError("rtsp://***@cam/1: no answer within 8 s")
    run = Run([away, away, away, away, stream(), away], waits=6).play()
    pauses = run.clock.waits
    assert pauses[0] <= 1.0
    assert pauses[3] >= 4.0
    assert pauses[4] <= 0.5


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (UnavailableError("cam: frozen"), "unavailable"),
        (UnreadableMediaError("clip: damaged"), "unreadable"),
        (NotFoundError("clip: no such file"), "unreadable"),
    ],
)
def test_trouble_is_a_reason_to_read_not_an_end(error: Exception, cause: str) -> None:
    run = Run([error], waits=1)
    states = []
    run.capture._context.clock.wait = lambda stop, seconds: (states.append(run.capture.progress.reason), stop.set())  # type: ignore[method-assign]
    run.play()
    assert states == [str(error)]
    assert run.capture.progress.state == "stopped"
    assert run.metric("sightline_ingest_reconnects_total", cause=cause) == 1


def test_a_source_is_closed_however_it_ends() -> None:
    broken = stream(end=UnavailableError("cam: frozen"))
    Run([broken], waits=1).play()
    assert broken.closed


def test_a_fault_of_ours_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        Run([stream(end=ZeroDivisionError())], waits=1).play()


def test_a_live_track_holds_the_gate_open() -> None:
    run = Run([recording(30)])
    run.live.hold("door", 1_000_100.0)
    run.play()
    assert [header.reason for header in run.headers].count("hold") >= 5


def test_timestamps_that_are_not_believed_are_counted() -> None:
    run = Run([ScriptedSource([(None, 100)] * 20, live=True)], waits=1).play()
    assert run.metric("sightline_ingest_clock_faults_total", fault="missing") == 8


def test_nothing_secret_is_in_the_configs_text() -> None:
    assert "geheim" not in repr(CameraConfig(name="door", url="rtsp://a:geheim@cam/1"))
