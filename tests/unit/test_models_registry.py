"""The registry: what ships is there and unharmed, users add but never replace, every problem is one clear line."""

import hashlib
from pathlib import Path

import pytest

from core.errors import ModelError, NotFoundError
from core.models.registry import WEIGHTS_DIR, Registry

OWN = """
[[model]]
name = "{name}"
task = "embedder"
architecture = "embedder"
file = "{file}"
sha256 = "{sha256}"
shipped = false
licence = "mine"
commercial_use = true
provenance = "trained here"
training_data = "ours"
template = "arcface112"
dimensions = 512
input = {{ tensor = "x", height_px = 112, width_px = 112, colour = "rgb", mean = 127.5, scale = 0.0078 }}
"""


def with_own(data_dir: Path, name: str = "own", content: bytes = b"weights", file: str = "own.onnx") -> Registry:
    folder = data_dir / "models"
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(content).hexdigest()
    (folder / "registry.toml").write_text(OWN.format(name=name, file=file, sha256=digest))
    return Registry.load(data_dir)


def test_every_shipped_model_is_here_unharmed_with_its_licence() -> None:
    registry = Registry.load(None)
    shipped = [spec for spec in registry.models.values() if spec.shipped]
    assert {spec.name for spec in shipped} == {"centerface", "fr_feature", "dlib_resnet_int8"}
    for spec in shipped:
        assert registry.path(spec).is_file()
        assert list(WEIGHTS_DIR.glob(f"{spec.name.removesuffix('_int8')}.LICENSE.txt"))
    assert sum(path.stat().st_size for path in WEIGHTS_DIR.iterdir()) < 25_000_000


def test_every_set_is_a_detector_and_an_embedder() -> None:
    registry = Registry.load(None)
    for model_set in registry.sets.values():
        assert registry.model(model_set.detector).task == "detector"
        assert registry.model(model_set.embedder).task == "embedder"


def test_no_set_that_ships_forbids_commercial_use() -> None:
    registry = Registry.load(None)
    for name in ("open", "cc0"):
        chosen = registry.model_set(name)
        assert all(registry.model(part).commercial_use for part in (chosen.detector, chosen.embedder))


def test_calibrations_fall_in_far_and_rise_in_score() -> None:
    for spec in Registry.load(None).models.values():
        for calibration in spec.calibration:
            fars, scores = zip(*((point.far, point.score) for point in calibration.points), strict=True)
            assert list(fars) == sorted(fars, reverse=True)
            assert list(scores) == sorted(scores)
            assert (fars[0], fars[-1]) == (1e-1, 1e-5)


def test_a_set_can_be_put_together_by_hand() -> None:
    registry = Registry.load(None)
    assert registry.model_set("centerface+dlib_resnet_int8").embedder == "dlib_resnet_int8"
    with pytest.raises(ModelError, match=r"fr_feature is a embedder, not a detector; write DETECTOR\+EMBEDDER"):
        registry.model_set("fr_feature+centerface")


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(NotFoundError, match="model nope: unknown; known are auraface, centerface"):
        Registry.load(None).model("nope")


def test_a_users_model_is_added(tmp_path: Path) -> None:
    registry = with_own(tmp_path)
    with pytest.raises(ModelError, match="own: not on this machine; run `sightline models pull own --from FILE`"):
        registry.path(registry.model("own"))
    (tmp_path / "models" / "own.onnx").write_bytes(b"weights")
    assert registry.path(registry.model("own")) == tmp_path / "models" / "own.onnx"


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    registry = with_own(tmp_path)
    (tmp_path / "models" / "own.onnx").write_bytes(b"weightS")
    with pytest.raises(ModelError, match="is damaged or was changed"):
        registry.path(registry.model("own"))


def test_a_user_cannot_replace_what_ships(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="centerface is already taken; give it another name"):
        with_own(tmp_path, name="centerface")


def test_a_model_file_stays_in_its_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.0\.file: String should match pattern"):
        with_own(tmp_path, file="../../etc/own.onnx")


@pytest.mark.parametrize(("text", "problem"), [("[[model", "not TOML"), ("[[model]]\nname = 'x'", r"model\.0\.task: Field required")])
def test_a_damaged_registry_names_its_problem(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "registry.toml").write_text(text)
    with pytest.raises(ModelError, match=problem):
        Registry.load(tmp_path)
