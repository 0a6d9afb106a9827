"""The gate on a real clip with labelled events: people come, stand and go before a static camera."""

from pathlib import Path

import numpy as np
import pytest

from cli.bench.ingest import judge_clip, read_truth, score
from ingest.gate import GateSettings, MotionGate
from tests.builders.scenes import Room

DATA = Path(__file__).parents[2].parent / "shared" / "data"
CLIP, TRUTH = DATA / "clips" / "one-by-one.mp4", DATA / "truth" / "motion_truth.json"


@pytest.mark.skipif(not CLIP.exists(), reason=f"SHARED DATA IS ABSENT ({CLIP}): the gate is not measured on real footage")
def test_the_labelled_clip_meets_its_targets() -> None:
    judged, _ = judge_clip(CLIP)
    figures = {name: value for name, (value, _) in score(judged, read_truth(TRUTH, CLIP)).items()}
    assert figures["events_found"] == figures["events_total"] == 12
    assert figures["standing_kept"] >= 0.9
    assert figures["empty_passed"] <= 0.3


def test_a_painted_visit_meets_the_same_targets() -> None:
    """Somebody walks in, stands and sways a little, walks out; three times. Needs no data."""
    room, gate, rng = Room(noise=3.0), MotionGate(GateSettings()), np.random.default_rng(2)
    kept: dict[str, list[bool]] = {"walk": [], "stand": [], "empty": []}
    now_s = 100.0

    def show(kind: str, figures: tuple[tuple[float, float, float, float], ...]) -> None:
        nonlocal now_s
        now_s += 0.1
        kept[kind].append(gate.decide(room.frame(figures), now_s, track_live=False).publish)

    for _ in range(3):
        for _ in range(80):
            show("empty", ())
        for step in range(20):
            show("walk", ((-60 + step * 15, 100, 80, 240),))
        for _ in range(100):
            show("stand", ((225 + 3 * rng.standard_normal(), 100, 80, 240),))
        for step in range(30):
            show("walk", ((225 + step * 15, 100, 80, 240),))
    assert np.mean(kept["stand"]) >= 0.9
    assert np.mean(kept["walk"]) >= 0.9
    assert np.mean(kept["empty"]) <= 0.3
