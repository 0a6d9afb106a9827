"""Commits of a consumer: contiguous, whatever the order of finishing, through revocations and redeliveries."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from core.adapters.kafka_ledger import Ledger, Limits, OffsetTracker
from core.ports import Partition, Record


def record(offset: int, *, partition: int = 0, size: int = 1) -> Record:
    return Record(topic="t", partition=partition, offset=offset, key="k", value=bytes(size))


@given(offsets=st.lists(st.integers(0, 200), unique=True, min_size=1), data=st.data())
def test_the_position_is_the_first_unfinished_offset(offsets: list[int], data: st.DataObject) -> None:
    tracker = OffsetTracker()
    for offset in sorted(offsets):  # with gaps, as compaction and transactions leave them
        tracker.deliver(offset)
    order = data.draw(st.permutations(offsets))
    finished: set[int] = set()
    for offset in order[: data.draw(st.integers(0, len(order)))]:
        assert tracker.finish(offset)
        assert not tracker.finish(offset)  # twice changes nothing
        finished.add(offset)
        left = [o for o in sorted(offsets) if o not in finished]
        assert tracker.position == (left[0] if left else max(offsets) + 1)
        assert tracker.unfinished == len(left)


def test_nothing_is_committed_before_something_is_finished() -> None:
    tracker = OffsetTracker()
    assert tracker.to_commit() is None
    tracker.deliver(7)
    tracker.deliver(8)
    assert tracker.to_commit() is None
    tracker.finish(8)
    assert tracker.to_commit() is None
    tracker.finish(7)
    assert tracker.to_commit() == 9
    tracker.acknowledged(9)
    assert tracker.to_commit() is None


def test_a_log_that_begins_anew_is_followed() -> None:
    tracker = OffsetTracker()
    tracker.deliver(500)
    tracker.finish(500)
    tracker.acknowledged(501)
    tracker.deliver(0)  # the topic was deleted and made again
    assert tracker.unfinished == 1
    tracker.finish(0)
    assert tracker.to_commit() == 1


def test_records_are_handed_out_one_of_each_partition_in_turn() -> None:
    ledger = Ledger(Limits())
    ledger.assign([("t", 0), ("t", 1)])
    for offset in range(5):
        ledger.arrive(record(offset))
    ledger.arrive(record(0, partition=1))
    assert [(r.partition, r.offset) for r in ledger.take(4)] == [(0, 0), (1, 0), (0, 1), (0, 2)]


def test_what_was_buffered_when_a_partition_stopped_is_neither_handed_out_nor_committed() -> None:
    ledger = Ledger(Limits())
    ledger.assign([("t", 0)])
    for offset in range(4):
        ledger.arrive(record(offset))
    (first,) = ledger.take(1)
    ledger.stop([("t", 0)])
    assert ledger.take(9) == []
    assert (ledger.in_flight(), ledger.buffered, ledger.buffered_bytes) == (1, 0, 0)
    ledger.finish([first])
    assert ledger.to_commit() == {("t", 0): 1}
    ledger.forget([("t", 0)])
    ledger.finish([first])
    assert ledger.to_commit() == {}


def test_a_full_buffer_pauses_all_and_goes_on_when_half_empty() -> None:
    ledger = Ledger(Limits(records=16))
    both: set[Partition] = {("t", 0), ("t", 1)}
    ledger.assign(both)
    for offset in range(8):
        ledger.arrive(record(offset))
        ledger.arrive(record(offset, partition=1))
    assert ledger.room() == 0
    assert ledger.paused() == both
    ledger.take(4)
    assert ledger.paused() == both
    ledger.take(4)
    assert ledger.paused() == set()


def test_bytes_count_as_records_do() -> None:
    ledger = Ledger(Limits(records=100, bytes=1000))
    ledger.assign([("t", 0)])
    ledger.arrive(record(0, size=1000))
    assert ledger.room() == 0
    assert ledger.paused() == {("t", 0)}
    ledger.take(1)
    assert ledger.paused() == set()


def test_one_partition_with_a_backlog_leaves_room_for_the_others() -> None:
    ledger = Ledger(Limits(records=80))
    ledger.assign([("t", number) for number in range(8)])
    for offset in range(20):
        ledger.arrive(record(offset))
    assert ledger.paused() == {("t", 0)}
    assert ledger.room() == 60


def test_a_record_that_waits_again_after_its_partition_came_back_is_not_finished_by_its_first_coming() -> None:
    ledger = Ledger(Limits(records=20))
    ledger.assign([("t", 0)])
    ledger.arrive(record(0))
    before = ledger.take(1)
    ledger.forget([("t", 0)])
    ledger.assign([("t", 0)])
    ledger.arrive(record(0))
    ledger.finish(before)
    assert (ledger.in_flight(), ledger.buffered, ledger.to_commit()) == (0, 1, {})
    again = ledger.take(1)
    assert ledger.in_flight() == 1
    ledger.finish(again)
    assert ledger.to_commit() == {("t", 0): 1}
    ledger.stop([("t", 0)])


class Consuming(RuleBasedStateMachine):
    """A consumer that gets, finishes, loses and regains partitions in any order, beside a plain model of the group."""

    given_out = Bundle("given_out")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(Limits(records=20, bytes=1000))
        self.committed = {0: 0, 1: 0, 2: 0}
        self.fetched: dict[int, int] = {}
        self.done: dict[int, set[int]] = {0: set(), 1: set(), 2: set()}

    @rule(partition=st.integers(0, 2))
    def assign(self, partition: int) -> None:
        if partition not in self.fetched:
            self.fetched[partition] = self.committed[partition]
            self.ledger.assign([("t", partition)])

    @rule(partition=st.integers(0, 2), count=st.integers(1, 5))
    def fetch(self, partition: int, count: int) -> None:
        for _ in range(min(count, self.ledger.room()) if partition in self.fetched else 0):
            self.ledger.arrive(record(self.fetched[partition], partition=partition, size=30))
            self.fetched[partition] += 1

    @rule(target=given_out, most=st.integers(1, 6))
    def take(self, most: int) -> list[Record]:
        return self.ledger.take(most)

    @rule(records=consumes(given_out))
    def finish(self, records: list[Record]) -> None:
        self.ledger.finish(records)
        for one in records:
            self.done[one.partition].add(one.offset)

    @rule()
    def commit(self) -> None:
        for (topic, partition), offset in self.ledger.to_commit().items():
            self.committed[partition] = offset
            self.ledger.acknowledged((topic, partition), offset)

    @rule(partition=st.integers(0, 2))
    def revoke(self, partition: int) -> None:
        self.ledger.stop([("t", partition)])
        for (_, number), offset in self.ledger.to_commit([("t", partition)]).items():
            self.committed[number] = offset
        self.ledger.forget([("t", partition)])
        self.fetched.pop(partition, None)

    @rule(partition=st.integers(0, 2))
    def lose(self, partition: int) -> None:
        self.ledger.forget([("t", partition)])
        self.fetched.pop(partition, None)

    @invariant()
    def nothing_unfinished_is_committed(self) -> None:
        for partition, offset in self.committed.items():
            assert set(range(offset)) <= self.done[partition]

    @invariant()
    def the_buffer_is_bounded(self) -> None:
        assert self.ledger.buffered <= 20
        assert self.ledger.in_flight() >= 0
        assert self.ledger.buffered_bytes == 30 * self.ledger.buffered


TestConsuming = Consuming.TestCase
