"""Evaluation on made-up vectors: who is counted, who is a stranger, what is refused."""

from pathlib import Path

import numpy as np
import pytest

from cli.evaluate import Request
from cli.evaluation.calibrating import FARS, impostors, make_table, pseudo_tracks, rising, toml_of
from cli.evaluation.faces import FaceSet, Failure, Stopwatch
from cli.evaluation.identification import identification_report, run_trials
from cli.evaluation.plot import DetPlot, check_plot_path, draw_det
from cli.evaluation.verification import Pair, compare, read_pairs, verification_report
from core.errors import NotFoundError, UsageError
from core.models.registry import Registry, RegistryFile
from embed.calibration import Calibration
from embed.metrics import error_curve

CALIBRATION = Calibration.of(Registry.load(None).model("fr_feature"))


def faces(*people: tuple[str, list[float]], failures: int = 0) -> FaceSet:
    vectors = np.array([vector for _, vector in people], np.float32)
    return FaceSet(
        files=tuple(f"{i}.jpg" for i in range(len(people))),
        subjects=tuple(name for name, _ in people),
        vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        failures=tuple(Failure(file=f"bad{i}.jpg", reason="no face was found") for i in range(failures)),
    )


def crowd(subjects: int, photos: int, seed: int = 5) -> FaceSet:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(subjects, 32))
    return faces(*((f"s{i:02d}", list(centres[i] + 0.7 * rng.normal(size=32))) for i in range(subjects) for _ in range(photos)))


GALLERY = faces(("ann", [1, 0, 0]), ("ann", [0.9, 0.1, 0]), ("bob", [0, 1, 0]))


def test_a_subject_counts_with_its_best_reference() -> None:
    trials = run_trials(GALLERY, faces(("ann", [0.9, 0.1, 0]), ("bob", [1, 0.2, 0])), faces(("x", [0, 0, 1])))
    assert trials.top[0] == pytest.approx(1, abs=1e-6)
    assert trials.correct.tolist() == [True, False]
    assert trials.ranks.tolist() == [1, 2]
    assert trials.stranger_source == "folder"


def test_probes_of_people_who_are_not_enrolled_are_strangers() -> None:
    trials = run_trials(GALLERY, faces(("ann", [1, 0, 0]), ("eve", [0, 0.6, 0.8])), None)
    assert len(trials.top) == 1
    assert trials.strangers.tolist() == [pytest.approx(0.6)]


def test_without_strangers_each_probe_is_tried_without_its_own_subject() -> None:
    trials = run_trials(GALLERY, faces(("ann", [0.8, 0.6, 0]), ("bob", [0.1, 1, 0])), None)
    assert trials.stranger_source == "leave-one-out"
    assert trials.strangers[0] == pytest.approx(0.6)


def test_report_says_what_was_measured_and_what_is_in_use() -> None:
    trials = run_trials(GALLERY, faces(("ann", [1, 0, 0]), ("bob", [0, 1, 0.1])), crowd_of_strangers(120))
    report = identification_report(trials, calibration=CALIBRATION, target_fpir=0.01, references=3)
    assert report["rank1"] == 1
    assert report["tpir_measured"] == {"0.01": True, "0.001": False}
    assert report["thresholds"]["0.001"] >= report["thresholds"]["0.01"]
    assert report["thresholds"]["in_use"] == round(CALIBRATION.threshold(kind="single", fpir=0.01, gallery_size=3), 4)
    assert report["in_use"]["tpir"]["value"] == 1


def crowd_of_strangers(count: int) -> FaceSet:
    angles = np.linspace(0.3, 1.2, count)
    return faces(*((f"x{i}", [0.3 * np.cos(a), 0.3 * np.sin(a), 1]) for i, a in enumerate(angles)))


def test_pairs_are_read_with_either_labelling(tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text("file_x,file_y,Decision\na.jpg,b.jpg,Yes\na.jpg,c.jpg,No\n")
    assert read_pairs(table) == [Pair(file_x="a.jpg", file_y="b.jpg", same=True), Pair(file_x="a.jpg", file_y="c.jpg", same=False)]
    table.write_text("file1,file2,label\na.jpg,b.jpg,1\n")
    assert read_pairs(table)[0].same


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x,y\n1,2\n", r"needs the columns file_x, file_y and Decision .* has x, y"),
        ("file_x,file_y,Decision\na,b,maybe\n", r"line 2: decision is 'maybe'"),
        ("file_x,file_y,label\na,,1\n", r"line 2: names no two files"),
    ],
)
def test_pairs_that_make_no_sense_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(UsageError, match=problem):
        read_pairs(tmp_path / "p.csv")


def test_missing_pairs_are_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        read_pairs(tmp_path / "p.csv")


def test_pairs_with_a_face_that_was_not_found_are_skipped_and_counted() -> None:
    found = faces(("0", [1, 0]), ("1", [1, 0.1]), ("2", [0, 1]), failures=1)
    pairs = [Pair(file_x=x, file_y=y, same=s) for x, y, s in (("0.jpg", "1.jpg", True), ("0.jpg", "2.jpg", False), ("0.jpg", "z", True))]
    comparisons = compare(pairs, found)
    report = verification_report(comparisons, calibration=CALIBRATION)
    assert (report["pairs"], report["skipped_pairs"], report["auc"], report["accuracy"]) == (2, 1, 1, 1)
    assert report["tar"]["0.01"]["value"] == 1
    assert not report["tar_measured"]["0.01"]
    with pytest.raises(UsageError, match="need pairs of one person and pairs of two"):
        compare(pairs[:1], found)


def test_impostors_are_all_comparisons_across_subjects() -> None:
    found = impostors(crowd(10, 5), "single", np.random.default_rng(0))
    assert len(found.scores) == 10 * 9 // 2 * 25
    assert (found.probe_subjects != found.reference_subjects).all()


def test_calibration_with_too_few_comparisons_is_refused() -> None:
    with pytest.raises(UsageError, match=r"at least 1000 are needed; add subjects$"):
        impostors(crowd(4, 3), "single", np.random.default_rng(0))
    with pytest.raises(UsageError, match="add subjects with 3 or more photos"):
        impostors(crowd(40, 2), "track", np.random.default_rng(0))


def test_pseudo_tracks_are_fused_from_one_subject() -> None:
    crew = crowd(3, 6)
    tracks, owners = pseudo_tracks(crew.vectors, np.repeat([0, 1, 2], 6), np.random.default_rng(0))
    assert np.linalg.norm(tracks, axis=1) == pytest.approx(np.ones(12), abs=1e-5)
    own = np.array([(tracks[i] @ crew.vectors[6 * o : 6 * o + 6].T).mean() for i, o in enumerate(owners)])
    assert own.min() > 0.6


def test_table_rises_errs_upwards_and_is_a_registry_entry(tmp_path: Path) -> None:
    table = make_table(impostors(crowd(20, 5), "single", np.random.default_rng(0)), source="made up", rng=np.random.default_rng(0))
    scores = [point.score for point in table.spec.points]
    assert scores == sorted(scores)
    assert [point.measured for point in table.spec.points] == [True, True, False, False, False]
    assert all(score >= best - 0.0006 for score, best in zip(scores, table.best, strict=True))
    import tomllib

    entry = Registry.load(None).model("fr_feature").model_dump(mode="json", exclude={"calibration"}, exclude_none=True)
    written = tomllib.loads(f"[[model]]\n{toml_of([table])}")["model"][0]["calibration"]
    model = RegistryFile.model_validate({"model": [entry | {"calibration": written}]}).model[0]
    assert model.calibration[0] == table.spec


def test_scores_are_made_to_rise_and_stay_below_one() -> None:
    assert rising([0.5, 0.4, 0.6]) == [0.5, 0.505, 0.6]
    top = rising([0.99, 1.2, 1.3, 1.4, 1.5])
    assert top[-1] == 0.999
    assert top == sorted(set(top))
    assert len(FARS) == 5


def test_stopwatch_gives_milliseconds_a_photo() -> None:
    watch = Stopwatch()
    watch.add("detect", 0.2, 4)
    watch.add("detect", 0.2, 4)
    assert watch.mean_ms() == {"detect": 50.0}


P = Path("p")
NONE = {"gallery": None, "probes": None, "strangers": None, "pairs": None, "images": None, "calibrate": None}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "give --gallery DIR --probes DIR, or"),
        ({"gallery": P}, "identification needs --probes"),
        ({"pairs": P, "images": P, "strangers": P}, "verification takes no --strangers"),
        ({"pairs": P}, "verification needs --images"),
        ({"calibrate": P, "gallery": P}, "calibration needs --probes and takes no --gallery"),
    ],
)
def test_options_that_do_not_go_together_are_refused(given: dict[str, Path], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        Request(**(NONE | given)).task()


def test_det_plot_is_written_and_bad_paths_are_refused_early(tmp_path: Path) -> None:
    curve = error_curve(np.array([0.5, 0.6, 0.9]), np.array([0.1, 0.2, 0.55]))
    plot = DetPlot(
        title="t",
        false_accept_name="FPIR",
        false_reject_name="FNIR",
        curve=curve,
        impostors=3,
        genuine=3,
        marked=0.57,
        marked_name="threshold in use",
    )
    draw_det(plot, tmp_path / "det.png")
    assert (tmp_path / "det.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match=r"write one of \.png"):
        check_plot_path(tmp_path / "det.txt")
    with pytest.raises(UsageError, match="there is no folder"):
        check_plot_path(tmp_path / "nowhere" / "det.png")
