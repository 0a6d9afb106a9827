"""Pulling models: packs and files of the user's, proven on generated graphs of the same shapes; hostile packs; consent."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from core.errors import ModelError, SettingsError, UnavailableError
from core.models.download import download, part_file
from core.models.recognise import recognise
from core.models.registry import Registry
from core.models.registry_text import with_model_set
from core.models.store import ModelStore
from tests.builders.onnx_models import arcface_model, buffalo, landmark_model, onnx_model, pack, scrfd_model


def model_file(path: Path, model) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def store(data_dir: Path) -> ModelStore:
    return ModelStore(Registry.load(data_dir))


def pull(data_dir: Path, name: str, source: Path | None):
    made = store(data_dir)
    text = None if source is None else str(source)
    return made.pull(made.wanted(name, text), text)


def test_a_detector_is_known_by_its_nine_outputs(tmp_path: Path) -> None:
    kind, tensor = recognise(model_file(tmp_path / "det.onnx", scrfd_model()))
    assert kind == "scrfd"
    assert (tensor.colour, tensor.mean, tensor.scale, tensor.height_px, tensor.batch) == ("rgb", 127.5, 1 / 128, None, False)


def test_a_detector_without_landmarks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"det.onnx: an SCRFD without landmarks \(6 outputs\); take a 'bnkps' model"):
        recognise(model_file(tmp_path / "det.onnx", scrfd_model(landmarks=False)))


@pytest.mark.parametrize(("batch", "batches"), [("N", True), (1, False)])
def test_an_embedder_is_known_by_its_512_values(tmp_path: Path, batch: int | str, batches: bool) -> None:
    kind, tensor = recognise(model_file(tmp_path / "rec.onnx", arcface_model(batch=batch)))
    assert kind == "arcface"
    assert (tensor.height_px, tensor.mean, tensor.scale, tensor.batch) == (112, 127.5, 1 / 127.5, batches)


@pytest.mark.parametrize("model", [landmark_model(), arcface_model(dimensions=128), onnx_model([], [("x", [2])], [("x", [2])])])
def test_other_models_are_not_recognised(tmp_path: Path, model) -> None:
    assert recognise(model_file(tmp_path / "x.onnx", model)) is None


def test_a_pack_becomes_a_set_that_loads_and_runs(tmp_path: Path) -> None:
    pulled = pull(tmp_path, "mine", buffalo(tmp_path / "mine.zip"))
    assert (pulled.set_name, pulled.ignored) == ("mine", ("mine/2d106det.onnx",))
    registry = Registry.load(tmp_path)
    chosen = registry.model_set("mine")
    detector, embedder = registry.model(chosen.detector), registry.model(chosen.embedder)
    assert (detector.architecture, embedder.template, embedder.dimensions) == ("scrfd", "arcface112", 512)
    assert not detector.commercial_use
    assert recognise(registry.path(detector))[0] == "scrfd"
    assert recognise(registry.path(embedder))[0] == "arcface"
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["mine_detector.onnx", "mine_embedder.onnx", "registry.toml"]


def test_pulling_twice_changes_nothing(tmp_path: Path) -> None:
    source = buffalo(tmp_path / "mine.zip")
    pull(tmp_path, "mine", source)
    before = (tmp_path / "models" / "registry.toml").read_text()
    pull(tmp_path, "mine", source)
    assert (tmp_path / "models" / "registry.toml").read_text() == before


def test_another_pack_of_the_same_name_is_refused_before_anything_changes(tmp_path: Path) -> None:
    pull(tmp_path, "mine", buffalo(tmp_path / "mine.zip"))
    other = pack(tmp_path / "other.zip", a=scrfd_model(), b=arcface_model(seed=1))
    with pytest.raises(ModelError, match="mine_embedder is there already, with other content"):
        pull(tmp_path, "mine", other)
    registry = Registry.load(tmp_path)
    assert registry.path(registry.model("mine_embedder")).is_file()


def test_a_users_registry_keeps_its_comments(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "registry.toml").write_text("# mine, do not touch\n")
    pull(tmp_path, "own", model_file(tmp_path / "own.onnx", arcface_model()))
    assert (tmp_path / "models" / "registry.toml").read_text().startswith('# mine, do not touch\n\n[[model]]\nname = "own"\n')
    assert Registry.load(tmp_path).model("own").provenance == "own.onnx, brought by the user"


def test_a_recorded_name_takes_only_the_recorded_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"buffalo_l: the file is not the recorded one \(sha256 .*nothing was installed"):
        pull(tmp_path, "buffalo_l", buffalo(tmp_path / "buffalo_l.zip"))
    with pytest.raises(ModelError, match="yunet: the file is not the recorded one"):
        pull(tmp_path, "yunet", model_file(tmp_path / "yunet.onnx", landmark_model()))
    assert list((tmp_path / "models").iterdir()) == []


def test_who_must_be_asked(tmp_path: Path) -> None:
    made = store(tmp_path)
    assert made.wanted("buffalo_l", None).needs_consent
    assert made.wanted("anything", "x.zip").needs_consent
    assert not made.wanted("sface", None).needs_consent


def test_what_ships_is_not_pulled(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="comes with Sightline"):
        store(tmp_path).wanted("centerface", None)


def test_an_unknown_name_lists_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nope: unknown; pull one of auraface, buffalo_l, buffalo_s, sface, yunet, or give your own"):
        store(tmp_path).wanted("nope", None)


@pytest.mark.parametrize("name", ["../up", "UPPER", "", "a" * 50, "open"])
def test_new_names_are_plain(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="no name for a new model"):
        store(tmp_path).wanted(name, "x.onnx")


@pytest.mark.parametrize("entry", ["../../evil.onnx", "/etc/evil.onnx", "C:\\evil.onnx", "a\\..\\evil.onnx"])
def test_a_pack_that_leads_elsewhere_is_refused_whole(tmp_path: Path, entry: str) -> None:
    source = buffalo(tmp_path / "mine.zip")
    with zipfile.ZipFile(source, "a") as made:
        made.writestr(entry, b"evil")
    with pytest.raises(ModelError, match="leads out of the pack; it was refused whole"):
        pull(tmp_path, "mine", source)
    assert list((tmp_path / "models").iterdir()) == []


def test_a_link_in_a_pack_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link.onnx")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as made:
        made.writestr(info, "/etc/passwd")
    with pytest.raises(ModelError, match="leads out of the pack"):
        pull(tmp_path, "mine", tmp_path / "mine.zip")


def test_a_crowded_pack_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as made:
        for number in range(60):
            made.writestr(f"{number}.onnx", b"")
    with pytest.raises(ModelError, match="60 entries, more than 50"):
        pull(tmp_path, "mine", tmp_path / "mine.zip")


def test_a_pack_with_broken_content_is_refused(tmp_path: Path) -> None:
    source = buffalo(tmp_path / "mine.zip")
    data = bytearray(source.read_bytes())
    data[500:800] = bytes(300)
    source.write_bytes(data)
    with pytest.raises(ModelError, match=r"mine\.zip: entry '.*' is damaged"):
        pull(tmp_path, "mine", source)


@pytest.mark.parametrize(
    ("models", "problem"),
    [
        ({"a": scrfd_model()}, "expected an SCRFD detector and an ArcFace embedder, found scrfd"),
        ({"a": landmark_model()}, "found neither"),
        ({"a": arcface_model(), "b": arcface_model(seed=1), "c": scrfd_model()}, "several models of kind arcface"),
    ],
)
def test_an_incomplete_or_ambiguous_pack_is_refused(tmp_path: Path, models: dict, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        pull(tmp_path, "mine", pack(tmp_path / "mine.zip", **models))


def test_garbage_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"\x00" * 1000)
    with pytest.raises(ModelError, match=r"x\.onnx: cannot be loaded"):
        pull(tmp_path, "mine", tmp_path / "x.onnx")
    with pytest.raises(ModelError, match="no such file"):
        pull(tmp_path, "mine", tmp_path / "absent.onnx")


def test_only_https_is_fetched(tmp_path: Path) -> None:
    for url in ("http://models.example/x.onnx", "file:///etc/passwd", "ftp://models.example/x"):
        with pytest.raises(ModelError, match="only https:// is fetched"):
            download(url, tmp_path / "x")


def test_an_unreachable_server_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"can't be reached \(.*\); fetch it on another machine and use --from FILE"):
        download("https://127.0.0.1:1/x.onnx", tmp_path / "x")


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")

    def fail() -> None:
        with part_file(target) as part:
            part.write_bytes(b"half of the n")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        fail()
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    with part_file(target) as part:
        part.write_bytes(b"new")
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(b"new").digest()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '[models]\nset = "cc0"\n'),
        ("# notes\nlog_level = 'info'", "# notes\nlog_level = 'info'\n\n[models]\nset = \"cc0\"\n"),
        (
            "[models] # here\nthreads = 2\nset = 'open' # old\n[api]\nport = 1\n",
            '[models] # here\nthreads = 2\nset = "cc0"\n[api]\nport = 1\n',
        ),
        ("[models]\nthreads = 2\n", '[models]\nset = "cc0"\nthreads = 2\n'),
        ("[api]\nset = 'x'\n", "[api]\nset = 'x'\n\n[models]\nset = \"cc0\"\n"),
    ],
)
def test_choosing_a_set_keeps_every_other_line(before: str, after: str) -> None:
    assert with_model_set(before, "cc0") == after


@pytest.mark.parametrize("before", ["models = { set = 'open' }\n", "models.set = 'open'\n", 'note = """\n[models]\nset = 1\n"""\n'])
def test_a_file_that_cannot_be_edited_safely_is_left_alone(before: str) -> None:
    with pytest.raises(SettingsError, match=r"can't change models.set safely; write it yourself"):
        with_model_set(before, "cc0")
