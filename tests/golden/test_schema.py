"""The bytes of every message, so that an old process can read a new one's and the other way round.

A changed file here is a changed wire format: add fields with defaults, never rename. New bytes: delete the file and run once with
SIGHTLINE_WRITE_GOLDEN=1.
"""

import contextlib
import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import MessageError
from core.schema import (
    Array,
    Biometrics,
    CandidateRow,
    DeadLetter,
    FrameHeader,
    GalleryChange,
    Message,
    ProbeBatch,
    ShardAnswer,
    Sighting,
    StageTimes,
    TrackPoint,
    decode,
    encode,
    sighting_id_of,
)

FOLDER = Path(__file__).parent / "messages"
VECTOR = Array.pack(np.array([0.6, -0.8], np.float32))
TIMES = StageTimes(
    captured_s=1.0, published_s=1.01, received_s=1.015, decoded_s=1.02, detected_s=1.03, embedded_s=1.04, matched_s=1.05, decided_s=1.06
)

MESSAGES: dict[str, tuple[Message, bytes]] = {
    "frame_header": (
        FrameHeader(
            frame_id="gate/s1/7",
            camera="gate",
            region="north",
            captured_s=1.0,
            published_s=1.01,
            width_px=1920,
            height_px=1080,
            reason="motion",
            motion_boxes=((1, 2, 30, 40),),
        ),
        b"\xff\xd8jpeg\xff\xd9",
    ),
    "biometrics": (Biometrics(embedding=VECTOR), b"\xff\xd8jpeg\xff\xd9"),
    "sighting": (
        Sighting(
            sighting_id=sighting_id_of("gate/s1/7#0"),
            track_id="gate/s1/7#0",
            camera="gate",
            region="north",
            revision=2,
            closed=True,
            outcome="subject",
            collection="default",
            subject_id="11111111-1111-1111-1111-111111111111",
            subject="alice",
            reference_id="22222222-2222-2222-2222-222222222222",
            score=0.61,
            threshold=0.48,
            model="fr_feature",
            quality=0.7,
            faces=12,
            first_s=1.0,
            last_s=3.0,
            best_s=2.0,
            best_box=(10.0, 20.0, 70.0, 90.0),
            path=(TrackPoint(1.0, 10.0, 20.0, 70.0, 90.0),),
            times=TIMES,
            embedding=VECTOR,
        ),
        b"thumbnail",
    ),
    "sighting_dropped": (
        Sighting(
            sighting_id=sighting_id_of("gate/s1/7#0"),
            track_id="gate/s1/7#0",
            camera="gate",
            region="north",
            revision=3,
            closed=True,
            dropped=True,
            outcome="unclear",
            reason="opted_out",
            collection="default",
            threshold=0.48,
            model="fr_feature",
            quality=0.0,
            faces=12,
            first_s=1.0,
            last_s=3.0,
            best_s=2.0,
            best_box=(0.0, 0.0, 0.0, 0.0),
            times=TIMES,
            weak_for=("33333333-3333-3333-3333-333333333333",),
        ),
        b"",
    ),
    "probe_batch": (ProbeBatch(batch_id="b1", model="fr_feature", collection="default", probes=VECTOR, k=5, timeout_s=2.0), b""),
    "shard_answer": (
        ShardAnswer(
            batch_id="b1", shard=0, shards_total=2, generation=9, candidates=((CandidateRow("s", "alice", "r", 0.5),),), references=3
        ),
        b"",
    ),
    "gallery_change": (
        GalleryChange(
            generation=9,
            action="put",
            collection="default",
            subject_id="s",
            subject="alice",
            reference_id="r",
            model="fr_feature",
            embedding=VECTOR,
            expires_s=9.0,
            starts_s=4.5,
        ),
        b"",
    ),
    "dead_letter": (DeadLetter(topic="frames.north", partition=3, offset=8, key="gate", reason="FrameHeader: 6 bytes"), b"poison"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_bytes_are_as_ever(name: str) -> None:
    message, payload = MESSAGES[name]
    data, path = encode(message, payload), FOLDER / f"{name}.bin"
    if os.environ.get("SIGHTLINE_WRITE_GOLDEN") and not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    assert data == path.read_bytes()
    again, rest = decode(type(message), path.read_bytes())
    assert again == message
    assert bytes(rest) == payload


def test_a_sighting_from_before_two_of_its_stage_times_existed_is_read() -> None:
    again, _ = decode(Sighting, (FOLDER / "sighting_before_received.bin").read_bytes())
    assert (again.times.decided_s, again.times.received_s, again.times.decoded_s) == (1.06, 0.0, 0.0)


def test_a_sighting_from_before_opt_outs_and_thresholds_of_watchlists_is_read() -> None:
    again, _ = decode(Sighting, (FOLDER / "sighting_before_dropped.bin").read_bytes())
    assert (again.subject, again.dropped, again.weak_for) == ("alice", False, ())


def test_a_gallery_change_from_before_validity_began_somewhere_is_read() -> None:
    again, _ = decode(GalleryChange, (FOLDER / "gallery_change_before_validity.bin").read_bytes())
    assert (again.subject, again.starts_s) == ("alice", None)


def test_a_newer_message_with_more_fields_is_read() -> None:
    header = msgspec.msgpack.encode({**msgspec.to_builtins(MESSAGES["dead_letter"][0]), "version": 2, "added_later": [1, 2]})
    message, payload = decode(DeadLetter, len(header).to_bytes(4, "little") + header + b"x")
    assert (message.version, message.key, bytes(payload)) == (2, "gate", b"x")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "FrameHeader: 0 bytes, shorter than the length field"),
        (b"\xff\xff\xff\x7fabc", "FrameHeader: header length 2147483647 in a record of 7 bytes"),
        (b"\x01\x00\x00\x00\x90", "FrameHeader: Expected `object`, got `array`"),
        (b"\x01\x00\x00\x00\x80", "FrameHeader: Object missing required field `frame_id`"),
    ],
)
def test_damage_is_named(data: bytes, text: str) -> None:
    with pytest.raises(MessageError) as caught:
        decode(FrameHeader, data)
    assert str(caught.value) == text


@given(st.binary(max_size=200))
def test_random_bytes_are_read_or_refused_never_worse(data: bytes) -> None:
    with contextlib.suppress(MessageError):
        decode(Sighting, data)


@pytest.mark.parametrize(
    "array", [Array("<f4", (3,), b"12345678"), Array("O", (1,), b"12345678"), Array("nonsense", (1,), b"1"), Array("<f4", (-1, 3), b"1234")]
)
def test_arrays_that_do_not_add_up_are_refused(array: Array) -> None:
    with pytest.raises(MessageError):
        array.unpack()


@given(st.integers(0, 5), st.integers(0, 7))
def test_arrays_come_back_as_they_were(rows: int, columns: int) -> None:
    array = np.random.default_rng(rows * 8 + columns).standard_normal((rows, columns)).astype(np.float32)
    assert np.array_equal(Array.pack(array).unpack(), array)
