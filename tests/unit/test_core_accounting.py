"""The account of frames: what was published, finished, put aside, is in flight, or never arrived."""

from hypothesis import given
from hypothesis import strategies as st

from core.accounting import CameraAccount, FrameTally, Numbers
from core.ports import Record
from core.schema import DeadLetter, FrameHeader, encode
from core.topology import REPLAY_HEADER

TOPIC = "frames.north"


def frame(seq: int, *, offset: int, camera: str = "gate", session: str = "s1", partition: int = 0, replay: bool = False) -> Record:
    header = FrameHeader(
        frame_id=f"{camera}/{session}/{seq}",
        camera=camera,
        region="north",
        captured_s=1.0,
        published_s=2.0,
        width_px=4,
        height_px=4,
        reason="motion",
    )
    headers = ((REPLAY_HEADER, b"run"),) if replay else ()
    return Record(topic=TOPIC, partition=partition, offset=offset, key=camera, value=encode(header, b"jpeg"), headers=headers)


def letter(offset: int, *, camera: str = "gate") -> Record:
    value = encode(DeadLetter(topic=TOPIC, partition=0, offset=offset, key=camera, reason="poison"), b"x")
    return Record(topic="dead." + TOPIC, partition=0, offset=0, key=camera, value=value)


def account(tally: FrameTally, before: dict[tuple[str, str], int] | None = None) -> CameraAccount:
    (only,) = tally.accounts(before or {})
    return only


@given(st.lists(st.integers(0, 40)))
def test_numbers_are_a_set(numbers: list[int]) -> None:
    kept, model = Numbers(), set[int]()
    for number in numbers:
        assert kept.add(number) == (number not in model)
        model.add(number)
    assert list(kept) == sorted(model)
    assert len(kept) == len(model)
    missing = {number for first, end in kept.holes() for number in range(first, end)}
    assert missing == (set(range(min(model), max(model))) - model if model else set())


def test_every_frame_is_finished_put_aside_or_in_flight() -> None:
    tally = FrameTally({(TOPIC, 0): 6})
    for seq in range(10):
        tally.add(frame(seq, offset=seq))
    tally.add_dead(letter(3), {(TOPIC, 0): (0, 10)})
    tally.add_dead(letter(3), {(TOPIC, 0): (0, 10)})  # put aside twice: a crash between letter and commit
    tally.add_dead(letter(7), {(TOPIC, 0): (0, 10)})  # not committed yet
    got = account(tally)
    assert (got.published, got.finished, got.dead_lettered, got.in_flight, got.lost) == (10, 5, 2, 3, 0)
    assert got.balance == 0


def test_a_dead_letter_of_a_record_before_the_window_is_not_counted() -> None:
    tally = FrameTally({})
    tally.add(frame(0, offset=100))
    tally.add_dead(letter(99), {(TOPIC, 0): (100, 101)})
    assert account(tally).dead_lettered == 0


def test_a_frame_published_twice_is_one_frame() -> None:
    tally = FrameTally({(TOPIC, 0): 9})
    for offset, seq in enumerate((0, 1, 1, 2)):
        tally.add(frame(seq, offset=offset))
    got = account(tally)
    assert (got.published, got.duplicates, got.lost, got.balance) == (4, 1, 0, 0)


def test_holes_are_lost_frames_and_are_named() -> None:
    tally = FrameTally({})
    for offset, seq in enumerate((0, 1, 4, 5, 7)):
        tally.add(frame(seq, offset=offset))
    got = account(tally)
    assert got.lost == 3
    assert got.missing == ["s1/2-3", "s1/6"]


def test_what_is_missing_before_the_first_is_lost_only_when_the_one_before_is_known() -> None:
    tally = FrameTally({})
    tally.add(frame(5, offset=0))
    tally.add(frame(9, offset=1, session="s2"))
    assert tally.open_heads() == {("gate", "s1"): 5, ("gate", "s2"): 9}
    got = account(tally, {("gate", "s1"): 2})
    assert got.lost == 2
    assert got.missing == ["s1/3-4"]


def test_replays_are_counted_apart() -> None:
    tally = FrameTally({(TOPIC, 0): 9})
    tally.add(frame(0, offset=0))
    tally.add(frame(0, offset=1, replay=True))
    got = account(tally)
    assert (got.published, got.finished, got.duplicates, got.replayed, got.balance) == (1, 1, 0, 1, 0)


def test_a_record_that_cannot_be_read_is_counted_under_its_key() -> None:
    tally = FrameTally({(TOPIC, 0): 1})
    tally.add(Record(topic=TOPIC, partition=0, offset=0, key="gate", value=b"junk"))
    tally.add_dead(letter(0), {(TOPIC, 0): (0, 1)})
    got = account(tally)
    assert (got.camera, got.published, got.finished, got.dead_lettered, got.unreadable, got.balance) == ("gate", 1, 0, 1, 1, 0)


def test_readers_are_added_up_also_when_a_camera_changed_its_partition() -> None:
    one, two = FrameTally({}), FrameTally({})
    for seq in (0, 1, 2):
        one.add(frame(seq, offset=seq))
    for offset, seq in enumerate((2, 4)):
        two.add(frame(seq, offset=offset, partition=1))
    one.merge(two)
    got = account(one)
    assert (got.published, got.duplicates, got.lost, got.missing) == (5, 1, 1, ["s1/3"])
