"""Secrets at rest."""

import base64
import stat
import threading
from pathlib import Path

import pytest
from pydantic import SecretStr

from core.errors import SettingsError
from core.secrets import KEY_FILE, OLD_KEYS_FILE, SecretBox, add_key, open_secret_box


def test_what_is_sealed_opens_again_after_a_restart(tmp_path: Path) -> None:
    sealed = open_secret_box(tmp_path).seal("rtsp://a:ü@cam", label="camera door")
    assert b"rtsp" not in sealed
    assert open_secret_box(tmp_path).open(sealed, label="camera door") == "rtsp://a:ü@cam"


def test_the_key_file_is_its_owners_only_and_nothing_else_is_left(tmp_path: Path) -> None:
    open_secret_box(tmp_path / "data")
    assert [path.name for path in (tmp_path / "data").iterdir()] == [KEY_FILE]
    assert stat.S_IMODE((tmp_path / "data" / KEY_FILE).stat().st_mode) == 0o600


def test_a_key_is_added_before_the_former_ones_which_still_open(tmp_path: Path) -> None:
    sealed = [open_secret_box(tmp_path).seal("first", label="l")]
    for text in ("second", "third"):
        add_key(tmp_path)
        sealed.append(open_secret_box(tmp_path).seal(text, label="l"))
    assert [open_secret_box(tmp_path).open(one, label="l") for one in sealed] == ["first", "second", "third"]
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == [KEY_FILE, OLD_KEYS_FILE]
    assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o600, 0o600]
    assert len({one[:5] for one in sealed}) == 3  # each under another key


def test_the_same_text_never_looks_the_same(tmp_path: Path) -> None:
    box = open_secret_box(tmp_path)
    assert box.seal("x", label="l") != box.seal("x", label="l")


def test_many_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    boxes: list[SecretBox] = []
    threads = [threading.Thread(target=lambda: boxes.append(open_secret_box(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sealed = boxes[0].seal("x", label="l")
    assert [box.open(sealed, label="l") for box in boxes] == ["x"] * 8


@pytest.mark.parametrize("damage", [lambda s: s[:-1], lambda s: b"\x03" + s[1:], lambda s: s[:5], lambda s: b"", lambda s: s + b"\x00"])
def test_damage_is_one_clear_line(tmp_path: Path, damage) -> None:
    box = open_secret_box(tmp_path)
    with pytest.raises(SettingsError, match=r"^camera door: its secret can't be opened; restore the key of that time"):
        box.open(damage(box.seal("rtsp://a:b@c", label="camera door")), label="camera door")


def test_a_secret_does_not_open_under_another_name(tmp_path: Path) -> None:
    box = open_secret_box(tmp_path)
    with pytest.raises(SettingsError, match="camera back"):
        box.open(box.seal("x", label="camera door"), label="camera back")


def test_a_lost_key_is_named(tmp_path: Path) -> None:
    sealed = open_secret_box(tmp_path).seal("x", label="camera door")
    (tmp_path / KEY_FILE).unlink()
    with pytest.raises(SettingsError, match="restore the key of that time"):
        open_secret_box(tmp_path).open(sealed, label="camera door")


def test_a_damaged_key_file_is_named(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_bytes(b"short")
    with pytest.raises(SettingsError, match=r"secret\.key: 5 bytes instead of 32"):
        open_secret_box(tmp_path)


def test_a_key_of_the_settings_opens_what_its_key_file_sealed_elsewhere(tmp_path: Path) -> None:
    sealed = open_secret_box(tmp_path / "one").seal("rtsp://a", label="l")
    key = SecretStr(base64.b64encode((tmp_path / "one" / KEY_FILE).read_bytes()).decode() + "\n")
    assert open_secret_box(tmp_path / "two", key).open(sealed, label="l") == "rtsp://a"
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize(("key", "message"), [("geheim", "expected base64 of 32 bytes"), ("Z2VoZWlt", "6 bytes instead of 32")])
def test_an_impossible_key_is_one_clear_line_without_the_key(tmp_path: Path, key: str, message: str) -> None:
    with pytest.raises(SettingsError, match=f"^secret_key: {message}") as caught:
        open_secret_box(tmp_path, SecretStr(key))
    assert key not in str(caught.value)
