"""The commands `models` and `doctor` as programs and people meet them."""

import json
import socket
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from cli.doctor import check_database, check_folder, check_models, check_port, examine
from cli.main import app
from core.adapters.ort import OrtSession
from core.errors import ModelError, NotFoundError, SettingsError
from core.models.registry import Registry
from core.settings import Settings
from detect.detector import open_detector
from embed.embedder import Embedder
from tests.builders.onnx_models import arcface_model, buffalo, scrfd_model


def sightline(data_dir: Path, *arguments: str):
    return CliRunner().invoke(app, ["--data", str(data_dir), *arguments])


def lines(result) -> list[dict]:
    assert result.exception is None, result.exception
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_list_has_models_sets_and_packs(tmp_path: Path) -> None:
    listed = lines(sightline(tmp_path, "models", "list", "--json"))
    names = {(entry["kind"], entry["name"]) for entry in listed}
    assert {("model", "centerface"), ("set", "open"), ("set", "cc0"), ("pack", "buffalo_l")} <= names
    centerface = next(entry for entry in listed if entry["name"] == "centerface")
    assert (centerface["shipped"], centerface["installed"], centerface["licence"]) == (True, True, "MIT")
    assert centerface["size_bytes"] > 7_000_000
    assert [entry["name"] for entry in listed if entry.get("in_use")] == ["open"]


def test_show_says_what_is_not_known_about_the_training_data(tmp_path: Path) -> None:
    (shown,) = lines(sightline(tmp_path, "models", "show", "fr_feature", "--json"))
    assert shown["training_data"].startswith("UNDOCUMENTED")
    assert {calibration["kind"] for calibration in shown["calibration"]} == {"single", "track"}
    text = sightline(tmp_path, "models", "show", "fr_feature").stderr
    assert "UNDOCUMENTED" in text
    assert "chance of a false match" in text


def test_show_of_an_unknown_model(tmp_path: Path) -> None:
    result = sightline(tmp_path, "models", "show", "nope")
    assert isinstance(result.exception, NotFoundError)


def test_use_writes_the_choice_and_keeps_the_rest(tmp_path: Path) -> None:
    (tmp_path / "sightline.toml").write_text("# ours\nlog_level = 'error'\n")
    (said,) = lines(sightline(tmp_path, "models", "use", "cc0", "--json"))
    assert (said["embedder"], said["in_force"]) == ("dlib_resnet_int8", "cc0")
    assert (tmp_path / "sightline.toml").read_text() == "# ours\nlog_level = 'error'\n\n[models]\nset = \"cc0\"\n"
    (said,) = lines(sightline(tmp_path, "models", "use", "centerface+fr_feature", "--json"))
    assert said["in_force"] == "centerface+fr_feature"


def test_use_mends_a_choice_that_no_longer_exists(tmp_path: Path) -> None:
    (tmp_path / "sightline.toml").write_text("[models]\nset = 'gone'\n")
    assert sightline(tmp_path, "models", "use", "open").exit_code == 0
    assert (tmp_path / "sightline.toml").read_text() == '[models]\nset = "open"\n'


def test_use_refuses_what_is_not_here(tmp_path: Path) -> None:
    result = sightline(tmp_path, "models", "use", "auraface")
    assert isinstance(result.exception, ModelError)
    assert str(result.exception) == "model auraface: not on this machine; run `sightline models pull auraface`"
    assert not (tmp_path / "sightline.toml").exists()


def test_an_insightface_pack_needs_consent_then_serves(tmp_path: Path) -> None:
    source = str(buffalo(tmp_path / "pack.zip"))
    refused = sightline(tmp_path, "models", "pull", "mine", "--from", source, "--json")
    assert isinstance(refused.exception, ModelError)
    assert "non-commercial" in str(refused.exception)
    assert "--accept-licence" in str(refused.exception)
    assert not (tmp_path / "models").exists()
    (said,) = lines(sightline(tmp_path, "models", "pull", "mine", "--from", source, "--accept-licence", "--json"))
    assert (said["set"], [model["task"] for model in said["pulled"]]) == ("mine", ["detector", "embedder"])
    (used,) = lines(sightline(tmp_path, "models", "use", "mine", "--json"))
    assert used["commercial_use"] is False


def test_a_pack_loads_through_the_ports_of_detection_and_embedding(tmp_path: Path) -> None:
    lines(sightline(tmp_path, "models", "pull", "mine", "--from", str(buffalo(tmp_path / "p.zip")), "--accept-licence", "--json"))
    registry = Registry.load(tmp_path)
    specs = [registry.model("mine_detector"), registry.model("mine_embedder")]
    sessions = [OrtSession(registry.path(spec), provider="cpu", threads=1) for spec in specs]
    detector, embedder = open_detector(specs[0], sessions[0], side_px=320), Embedder(specs[1], sessions[1])
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    assert len(detector.detect([image, image])) == 2
    landmarks = np.array([[[100, 100], [140, 100], [120, 120], [105, 140], [135, 140]]], np.float32)
    embeddings = embedder.embed(embedder.chips(image, landmarks))
    assert (embeddings.model, embeddings.vectors.shape) == ("mine_embedder", (1, 512))


def test_a_detector_of_ones_own(tmp_path: Path) -> None:
    for name, model in (("det", scrfd_model(side=320)), ("rec", arcface_model())):
        (tmp_path / f"{name}.onnx").write_bytes(model.SerializeToString())
        lines(sightline(tmp_path, "models", "pull", name, "--from", str(tmp_path / f"{name}.onnx"), "--accept-licence", "--json"))
    (said,) = lines(sightline(tmp_path, "models", "use", "det+rec", "--json"))
    assert (said["detector"], said["embedder"]) == ("det", "rec")


def test_doctor_finds_this_installation_able(tmp_path: Path) -> None:
    result = sightline(tmp_path, "doctor", "--json")
    found = {entry["check"]: entry for entry in map(json.loads, result.stdout.splitlines())}
    checks = {
        "python",
        "sightline",
        "cpu",
        "memory",
        "disk",
        "gpu",
        "settings",
        "data directory",
        "models",
        "search",
        "video",
        "database",
        "api",
    }
    assert checks <= set(found)
    assert [name for name, entry in found.items() if entry["state"] == "fail" and name not in {"disk"}] == []
    assert "sha256 verified, licence: MIT" in found["embedder"]["value"]
    assert found["detector runs on"]["value"].startswith(("cpu", "cuda", "tensorrt"))
    assert not (tmp_path / "models").exists()


def test_doctor_fails_with_1_and_says_how_to_mend(tmp_path: Path) -> None:
    (tmp_path / "sightline.toml").write_text("[models]\nset = 'opencv'\n")
    result = sightline(tmp_path, "doctor", "--json")
    assert result.exit_code == 1
    failed = [entry for entry in map(json.loads, result.stdout.splitlines()) if entry["state"] == "fail"]
    assert {entry["check"] for entry in failed} >= {"detector", "embedder"}
    assert all(entry["mend"] for entry in failed)


def test_doctor_goes_on_when_the_settings_are_unreadable(tmp_path: Path) -> None:
    def broken() -> Settings:
        raise SettingsError("settings: log_level: nonsense")

    findings = {finding.check: finding for finding in examine(broken, tmp_path)}
    assert (findings["settings"].state, findings["settings"].value) == ("fail", "settings: log_level: nonsense")
    assert findings["models"].state == "ok"


def test_doctor_sees_a_taken_port_and_a_silent_database() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert check_port("127.0.0.1", port).state == "warn"
        taken = check_database(f"postgresql://user:secret@127.0.0.1:{port}/x", Path())
        assert (taken.state, "secret" in taken.value) == ("ok", False)
    silent = check_database(f"postgresql://user:secret@127.0.0.1:{port}/x", Path())
    assert (silent.state, "secret" in silent.value + silent.mend) == ("fail", False)
    assert check_port("127.0.0.1", port).state == "ok"


def test_doctor_sees_a_file_where_the_data_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert [(finding.check, finding.state) for finding in check_folder(tmp_path / "data" / "sub")] == [("data directory", "fail")]


def test_doctor_says_that_a_provider_is_missing(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, models={"provider": "tensorrt"})
    found = {finding.check: finding for finding in check_models(settings)}
    if found["detector runs on"].state == "fail":
        assert "provider tensorrt: " in found["detector runs on"].value
    else:
        assert found["detector runs on"].value.startswith("tensorrt")
