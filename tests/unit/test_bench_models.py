"""Benchmark frames, the race's bookkeeping, and the list of benchmarks."""

import numpy as np
from typer.testing import CliRunner

from cli.bench import BENCHES
from cli.bench.compare import measure
from cli.bench.scene import frames, gallery
from cli.main import app


def test_help_lists_every_benchmark_without_importing_it():
    shown = CliRunner().invoke(app, ["bench", "--help"]).output
    assert all(name in shown for name in BENCHES)


def test_frames_differ_and_repeat_exactly():
    first, again = frames(360, 640, 3), frames(360, 640, 3)
    assert not np.array_equal(first[0], first[1])
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(gallery()) == 2


def test_a_race_counts_faces_and_names_of_both_sides_without_the_warm_up():
    race = measure(lambda frame: ["a", None], lambda frame: [None], frames=5)
    assert (race.ours_faces, race.ours_named, race.theirs_faces, race.theirs_named) == (10, 5, 5, 0)
    assert len(race.ours_ms) == len(race.theirs_ms) == 5
    assert {"speed_ratio", "sightline_frames_per_second", "face_recognition_frames_per_second"} <= set(race.figures())
