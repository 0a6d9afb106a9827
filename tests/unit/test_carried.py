"""What identifies people is sealed on its way through a log, and opens only where it belongs."""

import msgspec
import numpy as np
import pytest

from core.carried import decode_sighting, encode_sighting, open_jpeg, seal_jpeg
from core.errors import MessageError
from core.schema import Array
from core.vault import Vault
from tests.builders.frames import gated
from tests.builders.sightings import sighting

VAULT = Vault([b"k" * 32])
ROTATED = Vault([b"n" * 32, b"k" * 32])
OTHER = Vault([b"o" * 32])
JPEG = b"\xff\xd8 a face \xff\xd9"


def test_a_frames_picture_is_sealed_and_opens_with_any_key_of_the_ring() -> None:
    header = gated(1).header
    sealed = seal_jpeg(VAULT, header, JPEG)
    assert b"a face" not in sealed
    for vault in (VAULT, ROTATED):
        assert open_jpeg(vault, header, memoryview(sealed)) == JPEG


def test_a_picture_that_nobody_sealed_is_what_it_is() -> None:
    for vault in (VAULT, None):
        assert open_jpeg(vault, gated(1).header, memoryview(JPEG)) == JPEG


def test_another_frames_picture_does_not_open() -> None:
    sealed = seal_jpeg(VAULT, gated(1).header, JPEG)
    with pytest.raises(MessageError, match=r"^frame door/s/2: can't be opened: it is damaged, or belongs to another row$"):
        open_jpeg(VAULT, gated(2).header, memoryview(sealed))


def test_who_lacks_the_key_is_told_so() -> None:
    header = gated(1).header
    sealed = memoryview(seal_jpeg(VAULT, header, JPEG))
    with pytest.raises(MessageError, match=r"^frame door/s/1: is sealed with a key that is not here; add it to old_secret_keys$"):
        open_jpeg(OTHER, header, sealed)
    with pytest.raises(MessageError, match=r"^frame door/s/1: is sealed, and this process has no keys$"):
        open_jpeg(None, header, sealed)


@pytest.mark.parametrize("embedding", [None, Array.pack(np.array([0.6, -0.8], np.float32))])
def test_a_sighting_comes_back_whole(embedding: Array | None) -> None:
    told = msgspec.structs.replace(sighting(), embedding=embedding)
    for vault in (VAULT, None):
        assert decode_sighting(vault, encode_sighting(vault, told, JPEG)) == (told, JPEG)


def test_a_sealed_sighting_shows_neither_face_nor_embedding() -> None:
    vector = Array.pack(np.array([0.6, -0.8], np.float32))
    data = encode_sighting(VAULT, msgspec.structs.replace(sighting(), embedding=vector), JPEG)
    assert b"a face" not in data
    assert vector.data not in data
    with pytest.raises(MessageError, match=r"is sealed, and this process has no keys$"):
        decode_sighting(None, data)


def test_a_picture_of_one_revision_does_not_go_with_another() -> None:
    data = encode_sighting(VAULT, sighting(), JPEG)
    other = encode_sighting(VAULT, msgspec.structs.replace(sighting(), revision=sighting().revision + 1), b"")
    length = 4 + int.from_bytes(other[:4], "little")
    with pytest.raises(MessageError, match=r"can't be opened"):
        decode_sighting(VAULT, other[:length] + data[4 + int.from_bytes(data[:4], "little") :])
