"""``sightline bench ingest``: what a camera's frame costs before recognition, and what the gate keeps of a labelled clip."""

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from cli.bench.report import Figures, emit_report
from cli.output import JSON_OPTION
from core.errors import NotFoundError, UnreadableMediaError, UsageError
from core.types import U8, Image

WIDTH, HEIGHT, FPS, FRAMES = 1920, 1080, 25, 100
NOISE_LEVELS = 4.0  # standard deviation: an indoor camera in the evening
SEED = 7
KEEP_EVERY, PASSES = 2, 3  # frames for the gate alone: 100 MB of luma, each looked at three times
ENCODE_EVERY = 5  # encoding is slow beside the rest and varies little


class Truth(msgspec.Struct, frozen=True):
    """What happens in a clip, as intervals in seconds from its first frame."""

    events: list[tuple[float, float]]
    """Somebody walks in or out."""
    still: list[tuple[float, float]]
    """Somebody stands."""
    empty: list[tuple[float, float]]
    """Nobody is there."""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """One frame of a clip as the gate judged it."""

    t_s: float
    publish: bool
    reason: str


def register(app: typer.Typer) -> None:
    """Add ``ingest`` to the benchmarks."""

    @app.command("ingest")
    def ingest(
        clip: Annotated[Path | None, typer.Option(help="Also run the gate over this recording.")] = None,
        truth: Annotated[Path | None, typer.Option(help="JSON with events, still, empty: intervals in seconds; scores the gate.")] = None,
        as_json: bool = JSON_OPTION,
    ) -> None:
        """Decode, gate and encode 1080p frames on one thread; score the gate on a labelled clip."""
        run(clip=clip, truth=truth, as_json=as_json)


def run(*, clip: Path | None, truth: Path | None, as_json: bool) -> None:
    """Measure and print.

    Raises:
        UsageError: a truth without a clip. NotFoundError, UnreadableMediaError: the clip or its truth.
    """
    import cv2

    from ingest.source import ffmpeg_version

    if truth is not None and clip is None:
        raise UsageError("--truth needs --clip: the recording that it describes")
    labels = None if truth is None or clip is None else read_truth(truth, clip)
    cv2.setNumThreads(1)
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "bench.mp4"
        write_clip(made)
        figures |= stage_costs(made)
    if clip is not None:
        judged, gate_ms = judge_clip(clip)
        figures["gate_per_frame_clip"] = (gate_ms, "ms")
        figures |= score(judged, labels)
    settings = {"frames": FRAMES, "size": f"{WIDTH}x{HEIGHT}", "threads": 1, "statistic": "median", "ffmpeg": ffmpeg_version()}
    emit_report("ingest", settings=settings | ({"clip": clip.name} if clip else {}), figures=figures, as_json=as_json)


def write_clip(path: Path) -> None:
    """Render a 1080p H.264 clip: a textured room with sensor noise through which a bright figure walks."""
    from ingest.source import ClipWriter

    with ClipWriter(path, fps=FPS) as writer:
        for image in room_frames(FRAMES):
            writer.write(image)


def room_frames(count: int) -> Iterator[Image]:
    """Yield (HEIGHT, WIDTH, 3) uint8 RGB frames, the same ones each time; the figure enters after a second."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(SEED)
    room = cv2.resize(rng.integers(40, 200, (27, 48, 3), dtype=np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    noise = [rng.normal(0.0, NOISE_LEVELS, (HEIGHT, WIDTH, 1)).astype(np.int16) for _ in range(4)]
    for number in range(count):
        image = room.copy()
        if number >= FPS:
            x = 60 + (number - FPS) * 20
            cv2.rectangle(image, (x, 350), (x + 180, 950), (210, 170, 150), cv2.FILLED)
        yield np.clip(image + noise[number % len(noise)], 0, 255).astype(np.uint8)


def stage_costs(path: Path) -> Figures:
    """Return what each stage costs for the frames of a clip, on one thread.

    ``gate_per_frame_1080p``: median over frames that the gate looks at, one after the other, the decoder out of the way.
    ``gate_per_look_1080p_beside_decoder``: median over the same kind of frames, each gated right after it was decoded, as in
    service: the decoder has emptied the caches, and the same work takes several times as long.
    ``gate_per_frame_1080p_beside_decoder``: mean over all frames of a 25 fps camera in service; three in five are not looked at.
    """
    from ingest.encode import encode_planes
    from ingest.gate import GateSettings, MotionGate
    from ingest.opening import SourceOptions
    from ingest.source import open_source

    decode, beside, encode, rgb = _Stopwatch(), _Stopwatch(), _Stopwatch(), _Stopwatch()
    gate, kept, looks = MotionGate(GateSettings()), list[U8](), list[float]()
    with open_source(str(path)) as source:
        frames = source.frames()
        for number in range(FRAMES):
            with decode:
                frame = next(frames)
            planes = frame.planes()
            with beside:
                decision = gate.decide(planes.y, number / FPS, track_live=False)
            if decision.reason != "rate":
                looks.append(beside.times_ms[-1])
            if number % ENCODE_EVERY == 0:
                with encode:
                    encode_planes(planes, 90)
                with rgb:
                    frame.rgb()
            if number % KEEP_EVERY == 0:
                kept.append(planes.y)
    quick = _Stopwatch()
    with open_source(str(path), SourceOptions(skip_loop_filter=True)) as source:
        frames = source.frames()
        for _ in range(FRAMES):
            with quick:
                next(frames)
    return {
        "gate_per_frame_1080p": (_gate_alone(kept), "ms"),
        "gate_per_look_1080p_beside_decoder": (statistics.median(looks), "ms"),
        "gate_per_frame_1080p_beside_decoder": (statistics.mean(beside.times_ms), "ms"),
        "decode_per_frame_1080p": (statistics.median(decode.times_ms), "ms"),
        "decode_per_frame_1080p_skip_loop_filter": (statistics.median(quick.times_ms), "ms"),
        "encode_per_frame_1080p": (statistics.median(encode.times_ms), "ms"),
        "rgb_per_frame_1080p": (statistics.median(rgb.times_ms), "ms"),
    }


def _gate_alone(lumas: list[U8]) -> float:
    """Return the median milliseconds of a look over frames 0.1 s apart, over a few passes."""
    from ingest.gate import GateSettings, MotionGate

    watch = _Stopwatch()
    for _ in range(PASSES):
        gate = MotionGate(GateSettings())
        for number, y in enumerate(lumas):
            with watch:
                gate.decide(y, number / 10, track_live=False)
    return statistics.median(watch.times_ms)


class _Stopwatch(AbstractContextManager[None]):
    """Collects how long its ``with`` blocks take."""

    def __init__(self) -> None:
        self.times_ms: list[float] = []

    def __enter__(self) -> None:
        self._begin_s = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.times_ms.append((time.perf_counter() - self._begin_s) * 1e3)


def judge_clip(path: Path) -> tuple[list[Judged], float]:
    """Run the gate with its defaults over a recording; return its decisions and the median cost of one in milliseconds."""
    from ingest.gate import GateSettings, MotionGate
    from ingest.recordings import open_frames

    gate, judged, cost = MotionGate(GateSettings()), list[Judged](), _Stopwatch()
    with open_frames(str(path)) as source:
        first_s: float | None = None
        for number, timed in enumerate(source.timed()):
            pts_s = timed.pts_s if timed.pts_s is not None else number / (source.info.fps or FPS)
            first_s = pts_s if first_s is None else first_s
            t_s, y = pts_s - first_s, timed.frame.planes().y
            with cost:
                decision = gate.decide(y, t_s, track_live=False)
            judged.append(Judged(t_s, decision.publish, decision.reason))
    return judged, statistics.median(cost.times_ms)


def score(judged: list[Judged], truth: Truth | None) -> Figures:
    """Return the share of dropped frames and, with a truth, how events, standing people and empty stretches fared."""
    figures: Figures = {
        "frames": (float(len(judged)), "frames"),
        "dropped_share": (1.0 - _passed(judged, [(0.0, float("inf"))]), "ratio"),
    }
    if truth is None:
        return figures
    found = sum(any(frame.publish and frame.reason == "motion" for frame in _within(judged, [event])) for event in truth.events)
    return figures | {
        "events_found": (float(found), "events"),
        "events_total": (float(len(truth.events)), "events"),
        "standing_kept": (_passed(judged, truth.still), "ratio"),
        "empty_passed": (_passed(judged, truth.empty), "ratio"),
    }


def _within(judged: list[Judged], intervals: list[tuple[float, float]]) -> list[Judged]:
    return [frame for frame in judged if any(begin <= frame.t_s <= end for begin, end in intervals)]


def _passed(judged: list[Judged], intervals: list[tuple[float, float]]) -> float:
    frames = _within(judged, intervals)
    return sum(frame.publish for frame in frames) / len(frames) if frames else 0.0


def read_truth(path: Path, clip: Path) -> Truth:
    """Read the intervals of a clip: an object with events, still and empty, or several such objects with their ``source``.

    Raises:
        NotFoundError: no such file, or it does not describe the clip. UnreadableMediaError: not such JSON.
    """
    if not path.is_file():
        raise NotFoundError(f"{path}: no such file")
    data = path.read_bytes()
    try:
        whole = msgspec.json.decode(data)
        if isinstance(whole, dict) and "events" in whole:
            return msgspec.convert(whole, Truth)
        entries = msgspec.convert(whole, dict[str, Truth])
    except msgspec.MsgspecError as err:
        raise UnreadableMediaError(f"{path}: expected {{events, still, empty: [[begin_s, end_s], ...]}}: {err}") from err
    for truth in entries.values():
        if truth.source == clip.name:
            return truth
    raise NotFoundError(f"{path}: describes {', '.join(sorted(t.source for t in entries.values()))}, not {clip.name}")
