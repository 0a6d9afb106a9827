"""The motion gate: what passes, why, and how often."""

import numpy as np
import pytest

from ingest.gate import Cadence, Decision, GateSettings, MotionGate
from ingest.zones import parse_polygon
from tests.builders.scenes import HEIGHT, WIDTH, Room, texture

FPS = 10


def watch(gate: MotionGate, frames: list[np.ndarray], *, start_s: float = 1000.0, fps: float = FPS, live: bool = False) -> list[Decision]:
    return [gate.decide(frame, start_s + number / fps, track_live=live) for number, frame in enumerate(frames)]


def settled(room: Room, gate: MotionGate, seconds: float = 4.0) -> float:
    """Show the empty room for a while; return the time after it."""
    count = int(seconds * FPS)
    watch(gate, [room.frame() for _ in range(count)])
    return 1000.0 + count / FPS


def walk(room: Room, count: int, *, step: float = 8.0, size: tuple[float, float] = (60, 180), contrast: int = 60) -> list[np.ndarray]:
    return [room.frame(((20 + number * step, 120, *size),), contrast=contrast) for number in range(count)]


def reasons(decisions: list[Decision]) -> list[str]:
    return [decision.reason for decision in decisions]


def test_the_first_frame_passes_as_a_scene_cut() -> None:
    decision = MotionGate(GateSettings()).decide(Room().frame(), 5.0, track_live=False)
    assert (decision.publish, decision.reason, decision.scene_cut) == (True, "motion", True)


@pytest.mark.parametrize("noise", [0.0, 2.0, 6.0, 12.0])
def test_a_static_scene_passes_heartbeats_only(noise: float) -> None:
    room, gate = Room(noise=noise), MotionGate(GateSettings(heartbeat_s=5.0))
    decisions = watch(gate, [room.frame() for _ in range(200)])
    assert set(reasons(decisions[1:])) == {"still", "heartbeat"}
    assert reasons(decisions).count("heartbeat") == 3


def test_a_walker_passes_every_frame_with_boxes_around_it() -> None:
    room, gate = Room(), MotionGate(GateSettings())
    start_s = settled(room, gate)
    decisions = watch(gate, walk(room, 20), start_s=start_s)
    assert set(reasons(decisions)) == {"motion"}
    x1, y1, x2, y2 = decisions[10].boxes[0]
    assert x1 <= 100 <= x2
    assert x1 <= 160 - 8 <= x2
    assert y1 < 200 < y2
    assert 0 <= x1 < x2 <= WIDTH
    assert 0 <= y1 < y2 <= HEIGHT


def test_a_slow_walker_far_away_is_seen() -> None:
    room, gate = Room(noise=1.0), MotionGate(GateSettings())
    start_s = settled(room, gate)
    decisions = watch(gate, walk(room, 60, step=0.5, size=(12, 30)), start_s=start_s)
    assert sum(decision.publish for decision in decisions) > 50


def test_somebody_who_stops_is_kept_for_some_seconds() -> None:
    room, gate = Room(), MotionGate(GateSettings())
    start_s = settled(room, gate)
    moving = walk(room, 15)
    watch(gate, moving, start_s=start_s)
    standing = watch(gate, [room.frame(((132, 120, 60, 180),)) for _ in range(50)], start_s=start_s + 1.5)
    assert all(decision.publish for decision in standing)
    assert "hold" in reasons(standing)


def test_the_gate_closes_soon_after_somebody_left() -> None:
    room, gate = Room(), MotionGate(GateSettings(hold_s=1.0))
    start_s = settled(room, gate)
    watch(gate, walk(room, 10), start_s=start_s)
    left = watch(gate, [room.frame() for _ in range(20)], start_s=start_s + 1.0)
    assert not any(decision.publish for decision in left[8:])


def test_a_person_who_moved_in_for_good_becomes_background() -> None:
    room, gate = Room(), MotionGate(GateSettings(heartbeat_s=100.0))
    start_s = settled(room, gate)
    chair = ((200.0, 200.0, 80.0, 80.0),)
    decisions = watch(gate, [room.frame(chair) for _ in range(200)], start_s=start_s)
    assert decisions[5].publish
    assert not any(decision.publish for decision in decisions[100:])


def test_a_light_switch_passes_one_frame_and_is_no_cut() -> None:
    room, gate = Room(), MotionGate(GateSettings())
    start_s = settled(room, gate)
    decisions = watch(gate, [room.frame(gain=0.4) for _ in range(30)], start_s=start_s)
    assert reasons(decisions).count("motion") == 1
    assert decisions[0].publish
    assert not any(decision.scene_cut for decision in decisions)


def test_slow_light_is_not_motion() -> None:
    room, gate = Room(), MotionGate(GateSettings(heartbeat_s=100.0))
    start_s = settled(room, gate)
    decisions = watch(gate, [room.frame(gain=1.0 - 0.003 * number) for number in range(120)], start_s=start_s)
    assert sum(decision.publish for decision in decisions) <= 3


def test_another_picture_is_a_scene_cut() -> None:
    gate = MotionGate(GateSettings())
    start_s = settled(Room(), gate)
    decisions = watch(gate, [Room(background=texture(9)).frame() for _ in range(5)], start_s=start_s)
    assert [decision.scene_cut for decision in decisions] == [True, False, False, False, False]
    assert decisions[0].publish


def test_another_size_is_a_scene_cut() -> None:
    gate = MotionGate(GateSettings())
    start_s = settled(Room(), gate)
    assert gate.decide(texture(0, width=320, height=180), start_s, track_live=False).scene_cut


def test_motion_under_a_mask_never_counts() -> None:
    room, gate = Room(), MotionGate(GateSettings(masks=(parse_polygon("0,0 0.5,0 0.5,1 0,1"),)))
    start_s = settled(room, gate)
    decisions = watch(gate, walk(room, 20, step=4.0), start_s=start_s)
    assert set(reasons(decisions)) == {"still"}


def test_motion_counts_only_inside_a_zone() -> None:
    room, gate = Room(), MotionGate(GateSettings(zones=(parse_polygon("0.5,0 1,0 1,1 0.5,1"),)))
    start_s = settled(room, gate)
    decisions = watch(gate, walk(room, 60, step=10.0), start_s=start_s)
    assert not any(decision.publish for decision in decisions[:20])
    assert all(decision.publish for decision in decisions[32:45])


def test_a_live_track_holds_the_gate_open_at_its_own_rate() -> None:
    room, gate = Room(), MotionGate(GateSettings(track_fps=2.0, heartbeat_s=100.0))
    start_s = settled(room, gate)
    decisions = watch(gate, [room.frame() for _ in range(50)], start_s=start_s, live=True)
    assert set(reasons(decisions)) == {"still", "hold"}
    assert reasons(decisions).count("hold") in (10, 11)


@pytest.mark.parametrize(("source_fps", "max_fps"), [(30, 10), (25, 10), (15, 10), (12, 10), (30, 4), (10, 10)])
def test_the_rate_cap_is_even_and_exact(source_fps: int, max_fps: int) -> None:
    room, gate = Room(), MotionGate(GateSettings(max_fps=max_fps))
    decisions = watch(gate, walk(room, source_fps * 6, step=90 / source_fps), fps=source_fps)
    passed = [number / source_fps for number, decision in enumerate(decisions) if decision.publish]
    assert len(passed) / 6 == pytest.approx(max_fps, rel=0.04)
    assert np.diff(passed).max() <= 1 / max_fps + 1 / source_fps + 1e-6
    assert set(reasons([decision for decision in decisions if not decision.publish])) <= {"rate"}


def test_a_jittering_camera_at_its_cap_loses_nothing() -> None:
    rng = np.random.default_rng(3)
    cadence, passed = Cadence(10.0), 0
    for number in range(300):
        now_s = number / 10 + float(rng.uniform(-0.02, 0.02))
        if cadence.ready(now_s, 0.1):
            cadence.take(now_s)
            passed += 1
    assert passed == 300


def test_a_clock_set_back_does_not_close_the_gate() -> None:
    room, gate = Room(), MotionGate(GateSettings())
    settled(room, gate)
    decisions = watch(gate, walk(room, 10), start_s=10.0)
    assert decisions[0].publish
    assert all(decision.publish for decision in decisions[1:])


def test_rotated_and_strided_luma_is_read_as_it_is_seen() -> None:
    room = Room()
    frames = [room.frame() for _ in range(10)] + walk(room, 10)
    upright = watch(MotionGate(GateSettings()), frames)
    turned = watch(MotionGate(GateSettings()), [np.rot90(np.rot90(frame, -1).copy()) for frame in frames])
    assert reasons(turned) == reasons(upright)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 5), (17, 200), (200, 17)])
def test_tiny_and_narrow_pictures_are_gated_without_complaint(size: tuple[int, int]) -> None:
    gate = MotionGate(GateSettings())
    decisions = watch(gate, [np.full(size, 90, np.uint8) for _ in range(12)])
    assert reasons(decisions[1:]) == ["still"] * 11


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"max_fps": 0.0}, "max_fps: expected more than 0, got 0.0"), ({"hold_s": -1.0}, "hold_s: expected 0 or more, got -1.0")],
)
def test_impossible_settings_say_what_is_wrong(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GateSettings(**settings)
