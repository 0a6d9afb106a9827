"""What must hold for any noise, light, figure and rate."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.gate import GateSettings, MotionGate
from ingest.timestamps import CaptureClock
from ingest.urls import redact
from tests.builders.scenes import HEIGHT, WIDTH, Room, texture

quick = settings(max_examples=12, deadline=None)


def passed(gate: MotionGate, frames, *, start_s: float, fps: float) -> list[bool]:
    return [gate.decide(frame, start_s + number / fps, track_live=False).publish for number, frame in enumerate(frames)]


@quick
@given(noise=st.floats(0, 15), scene=st.integers(0, 50), fps=st.sampled_from([5, 10, 25]), gain=st.floats(0.2, 1.2))
def test_a_static_noisy_scene_passes_heartbeats_only(noise: float, scene: int, fps: int, gain: float) -> None:
    room, gate = Room(background=texture(scene), noise=noise), MotionGate(GateSettings(heartbeat_s=2.0))
    result = passed(gate, (room.frame(gain=gain) for _ in range(6 * fps)), start_s=50.0, fps=fps)
    assert 3 <= sum(result) <= 4


@quick
@given(
    noise=st.floats(0, 6),
    scene=st.integers(0, 50),
    height=st.integers(40, 250),
    speed=st.floats(40, 300),
    contrast=st.integers(40, 110),
)
def test_anybody_larger_than_a_ninth_of_the_height_who_walks_passes(
    noise: float, scene: int, height: int, speed: float, contrast: int
) -> None:
    """Speed in pixels a second at 640x360: a slow to a fast walk across the room."""
    room, gate = Room(background=texture(scene), noise=noise), MotionGate(GateSettings())
    passed(gate, (room.frame() for _ in range(20)), start_s=50.0, fps=10)
    width, top = height * 0.4, HEIGHT - height - 20
    count = min(int((WIDTH - width - 20) / speed * 10), 40)
    figures = (((20 + number * speed / 10, top, width, height),) for number in range(count))
    result = passed(gate, (room.frame(figure, contrast=contrast) for figure in figures), start_s=52.0, fps=10)
    assert sum(result) >= 0.9 * len(result) - 1


@quick
@given(data=st.lists(st.tuples(st.floats(-1e6, 1e6) | st.none(), st.floats(0, 3)), max_size=200))
def test_capture_times_always_grow_and_never_leave_the_present(data: list[tuple[float | None, float]]) -> None:
    clock, now_s, last_s = CaptureClock(), 1e9, float("-inf")
    for pts_s, passed_s in data:
        now_s += passed_s
        captured_s = clock.stamp(pts_s, now_s).captured_s
        assert captured_s > last_s
        assert now_s - 8.1 <= captured_s <= now_s + 0.05
        last_s = captured_s


text = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\"'<>"), min_size=4, max_size=20)


@settings(max_examples=200, deadline=None)
@given(password=text, path=st.from_regex(r"[a-z0-9/]{0,20}", fullmatch=True))
def test_no_password_survives_redaction(password: str, path: str) -> None:
    shown = redact(f"rtsp://admin:{password}@camera.example/{path}")
    assert shown.endswith(f"@camera.example/{path}")
    assert shown.startswith("rtsp://***@")
