"""The account of frames: published = finished + dead-lettered + in flight, per camera, and which never arrived. Pure.

Frame ids are ``camera/session/seq`` and seq has no gaps from the moment a frame is accepted, so a hole in Kafka is a lost frame.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from core.errors import MessageError
from core.ports import Partition, Record
from core.schema import DeadLetter, FrameHeader, decode
from core.topology import REPLAY_HEADER, region_of

MISSING_SHOWN = 8  # holes named per camera; the count is always whole


class Numbers:
    """A set of whole numbers that mostly follow each other, kept as ranges."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, number: int) -> bool:
        """Add a number; False when it was there."""
        if self._ends and number == self._ends[-1]:  # the usual case
            self._ends[-1] += 1
            return True
        at = bisect_right(self._starts, number) - 1
        if at >= 0 and number < self._ends[at]:
            return False
        touches_left = at >= 0 and self._ends[at] == number
        touches_right = at + 1 < len(self._starts) and self._starts[at + 1] == number + 1
        if touches_left and touches_right:
            self._ends[at] = self._ends.pop(at + 1)
            self._starts.pop(at + 1)
        elif touches_left:
            self._ends[at] += 1
        elif touches_right:
            self._starts[at + 1] = number
        else:
            self._starts.insert(at + 1, number)
            self._ends.insert(at + 1, number + 1)
        return True

    @property
    def first(self) -> int:
        """The smallest number. Raises IndexError when there is none."""
        return self._starts[0]

    def holes(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges (first missing, first there again) between the smallest and the largest number."""
        yield from zip(self._ends[:-1], self._starts[1:], strict=True)

    def __iter__(self) -> Iterator[int]:
        for start, end in zip(self._starts, self._ends, strict=True):
            yield from range(start, end)

    def __len__(self) -> int:
        return sum(self._ends) - sum(self._starts)


@dataclass(slots=True, kw_only=True)
class CameraAccount:
    """What became of one camera's frames."""

    camera: str
    region: str
    published: int = 0
    """Records, replays left out."""
    finished: int = 0
    dead_lettered: int = 0
    in_flight: int = 0
    """Not finished yet: waiting, or being worked on."""
    lost: int = 0
    """Numbers that never reached Kafka."""
    duplicates: int = 0
    """Records beyond the first of a frame; people never see them."""
    unreadable: int = 0
    """Records without a header that can be read; they end as dead letters."""
    replayed: int = 0
    """Records that ``sightline replay`` published again; in none of the other counts."""
    missing: list[str] = field(default_factory=list)
    """The first few lost ones, as ``session/12-15``."""

    @property
    def balance(self) -> int:
        """Published frames that are nowhere: 0, or something is wrong."""
        return self.published - self.finished - self.dead_lettered - self.in_flight


Session = tuple[str, str]
"""Camera and session."""


class FrameTally:
    """Counts frames records by records, in any order of partitions; tallies of several readers are merged. Thread rule: one thread."""

    def __init__(self, committed: Mapping[Partition, int]) -> None:
        """Take the offsets up to which the recognizers have finished; partitions that are absent count as never read."""
        self._committed = committed
        self._cameras: dict[str, CameraAccount] = {}
        self._seen: dict[Session, Numbers] = {}
        self._dead: set[tuple[Partition, int]] = set()

    def add(self, record: Record) -> None:
        """Count a record of a frames topic."""
        account = self._account(record.key, region_of(record.topic))
        if is_replay(record):
            account.replayed += 1
            return
        account.published += 1
        if record.offset < self._committed.get((record.topic, record.partition), 0):
            account.finished += 1
        else:
            account.in_flight += 1
        number = frame_number(record)
        if number is None:
            account.unreadable += 1
        elif not self._seen.setdefault(number[0], Numbers()).add(number[1]):
            account.duplicates += 1

    def add_dead(self, record: Record, counted: Mapping[Partition, tuple[int, int]]) -> None:
        """Count a dead letter, if its record is among those counted (partition -> first offset, end); once however often it came."""
        try:
            letter, _ = decode(DeadLetter, record.value)
        except MessageError:
            return
        partition = (letter.topic, letter.partition)
        first, end = counted.get(partition, (0, 0))
        if is_replay(record) or not first <= letter.offset < end or (partition, letter.offset) in self._dead:
            return
        self._dead.add((partition, letter.offset))
        account = self._account(letter.key, region_of(letter.topic))
        account.dead_lettered += 1
        if letter.offset < self._committed.get(partition, 0):
            account.finished -= 1
        else:
            account.in_flight -= 1

    def merge(self, other: "FrameTally") -> None:
        """Add what another reader counted."""
        for camera, theirs in other._cameras.items():
            mine = self._account(camera, theirs.region)
            for name in ("published", "finished", "dead_lettered", "in_flight", "duplicates", "unreadable", "replayed"):
                setattr(mine, name, getattr(mine, name) + getattr(theirs, name))
        for session, numbers in other._seen.items():
            mine_seen = self._seen.setdefault(session, numbers)
            if mine_seen is not numbers:  # the topic grew: the camera is in two partitions
                self._account(session[0], "").duplicates += sum(not mine_seen.add(number) for number in numbers)
        self._dead |= other._dead

    def open_heads(self) -> dict[Session, int]:
        """Return the first number of each session that was not seen from its beginning: what was before it must be looked up."""
        return {session: numbers.first for session, numbers in self._seen.items() if numbers.first > 0}

    def accounts(self, before: Mapping[Session, int]) -> list[CameraAccount]:
        """Return the account of each camera, by name.

        Args:
            before: session -> number of the last frame before the first that was counted; absent = not known.
        """
        for (camera, session), numbers in self._seen.items():
            head = before.get((camera, session))
            holes = [] if head is None or head + 1 >= numbers.first else [(head + 1, numbers.first)]
            self._lose(self._cameras[camera], session, [*holes, *numbers.holes()])
        return [self._cameras[name] for name in sorted(self._cameras)]

    def _lose(self, account: CameraAccount, session: str, holes: Iterable[tuple[int, int]]) -> None:
        for first, end in holes:
            account.lost += end - first
            if len(account.missing) < MISSING_SHOWN:
                account.missing.append(f"{session}/{first}" + (f"-{end - 1}" if end - first > 1 else ""))

    def _account(self, camera: str, region: str) -> CameraAccount:
        account = self._cameras.setdefault(camera, CameraAccount(camera=camera, region=region))
        account.region = account.region or region
        return account


def is_replay(record: Record) -> bool:
    """Return whether ``sightline replay`` published a record, or the record that a dead letter is about."""
    return any(name == REPLAY_HEADER for name, _ in record.headers)


def frame_number(record: Record) -> tuple[Session, int] | None:
    """Return camera, session and number of a frame record; None when its header can't be read."""
    try:
        header, _ = decode(FrameHeader, record.value)
        camera, session, number = header.frame_id.rsplit("/", 2)
        return (camera, session), int(number)
    except (MessageError, ValueError):
        return None
