"""From an accepted frame to the log, with a spool in between: what the log does not acknowledge at once is on disk half a second later.

Each camera has a lane: its frames in the order of acceptance, the first ones on disk (if any), the later ones in memory. The first is on
its way to the log; when it is late or refused, all of the lane goes to disk, and what comes after goes behind it. So the order of a
camera holds, and a camera whose log answers never touches the disk. Pictures are sealed when they are taken into care.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from core.carried import seal_jpeg
from core.errors import MessageError, SettingsError, UnavailableError
from core.metrics import Metrics
from core.ports import Log
from core.schema import FrameHeader, encode
from core.topology import frames_topic
from core.vault import Vault
from ingest.capture import SystemClock
from ingest.outbox import GatedFrame
from ingest.publish import RETRY_S
from ingest.spool import Kept, Spool, SpoolFullError, orphans, own_slot

SPOOL_FOLDER = "spool"
SPILL_S = 0.5  # a frame that waits longer for its acknowledgement is put on disk, too: a kill costs less than this
WINDOW_BYTES = 128 << 20  # frames in memory, of all cameras: bridges a disk that stalls; each camera may use its share
ROOM_S = 1.0  # between looks whether a full disk has room again
KEEP_S = 3600.0  # older frames are forgotten: they are pictures of people, and what they show is no news any more
LOOK_S = 10.0  # between looks for frames that are too old, and for spools that dead processes left

T = TypeVar("T")
log = structlog.get_logger("ingest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much may wait for the log."""

    disk_bytes: int
    memory_bytes: int = WINDOW_BYTES
    age_s: float = KEEP_S
    """Older frames are dropped, and counted as ``old``."""


@dataclass(slots=True, eq=False)
class _Entry:
    """A frame in care: in memory, on disk, or both while it is on its way."""

    header: FrameHeader
    since_s: float
    """By the loop's clock."""
    frame: GatedFrame | None = None
    kept: Kept | None = None
    acknowledged: Callable[[], None] = lambda: None
    done: bool = False


@dataclass(slots=True, eq=False)
class _Lane:
    """The frames of one camera, oldest first."""

    camera: str
    entries: deque[_Entry] = field(default_factory=deque)
    memory: deque[_Entry] = field(default_factory=deque)
    """The last of ``entries``: those that are not on disk."""
    memory_bytes: int = 0
    flying: _Entry | None = None
    """On its way to the log."""
    late: bool = False
    """Everything goes to disk, until the lane is empty."""
    spilling: bool = False
    driven: bool = False
    room: asyncio.Event = field(default_factory=asyncio.Event)


class SpoolingPublisher:
    """Implements ``ingest.publish.Publisher``. Thread rule: event loop; files are touched by one thread of its own."""

    outbox_frames = 32  # as no frame is to be lost that there is room for: 3 s at 10 fps, during which a starved process may do nothing

    def __init__(
        self, log_port: Log, root: Path, bounds: Bounds, *, vault: Vault, metrics: Metrics, clock: SystemClock | None = None
    ) -> None:
        """Made by ``open_spooling``."""
        self._log, self._root, self._bounds = log_port, root, bounds
        self._vault, self._metrics, self._clock = vault, metrics, clock or SystemClock()
        self._files = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._spools: list[Spool] = []
        self._lanes: dict[str, _Lane] = {}
        self._group: asyncio.TaskGroup | None = None
        self._loop = asyncio.get_running_loop()
        self._empty = asyncio.Event()
        self._empty.set()
        self._away: set[str] = set()
        self._full = False
        self._unreadable = ""

    async def accept(self, frame: GatedFrame, acknowledged: Callable[[], None]) -> None:
        """Take a frame into care; waits while its camera's share of the memory is full, that is: while the log and the disk are."""
        lane = self._lane(frame.header.camera)
        frame = GatedFrame(frame.header, seal_jpeg(self._vault, frame.header, frame.jpeg))
        entry = _Entry(frame.header, self._loop.time(), frame, acknowledged=acknowledged)
        lane.entries.append(entry)
        lane.memory.append(entry)
        lane.memory_bytes += len(frame.jpeg)
        self._drive(lane)
        if lane.late or entry.since_s - lane.memory[0].since_s > SPILL_S:
            self._be_late(lane)
        while entry.kept is None and not entry.done and self._over_its_share(lane, entry):
            self._be_late(lane)
            lane.room.clear()
            await lane.room.wait()

    def _over_its_share(self, lane: _Lane, newest: _Entry) -> bool:
        share = self._bounds.memory_bytes // max(len(self._lanes), 1)
        return lane.memory_bytes > share and lane.memory[0] is not newest

    def waiting(self, camera: str) -> int:
        """Return how many frames of a camera are in care."""
        lane = self._lanes.get(camera)
        return len(lane.entries) if lane else 0

    @property
    def frames(self) -> int:
        """How many frames are on disk."""
        return sum(spool.frames for spool in self._spools)

    async def drained(self) -> None:
        """Return once the log has everything."""
        await self._empty.wait()

    async def run(self) -> None:
        """Publish until cancelled; then what is in memory goes to disk, for the next start."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    await self._look_after()
                finally:
                    self._group = None  # no new tasks while the others end
        finally:
            await self._keep_rest()

    async def _look_after(self) -> None:
        for lane in list(self._lanes.values()):
            self._drive(lane)
        while True:
            await self._adopt()
            await self._forget_old()
            await asyncio.sleep(LOOK_S)

    async def open(self) -> None:
        """Own a spool, and take what an earlier process left in it.

        Raises:
            SettingsError: the folder can't be used.
        """
        spool, left = await self._in_thread(own_slot, self._root, self._bounds.disk_bytes)
        self._take_over(spool, left)

    async def close(self) -> None:
        """Let go of all spools; what is in them stays, and what is in memory goes there."""
        await self._keep_rest()
        for spool in self._spools:
            await self._in_thread(spool.close)
        self._spools.clear()
        self._files.shutdown()

    # The way to the log

    def _lane(self, camera: str) -> _Lane:
        if camera not in self._lanes:
            self._lanes[camera] = _Lane(camera)
        return self._lanes[camera]

    def _drive(self, lane: _Lane) -> None:
        """Have a task publish a lane's frames, as long as there are any."""
        self._empty.clear()
        if self._group is not None and not lane.driven:
            lane.driven = True
            self._group.create_task(self._publish_all(lane), name="lane")

    async def _publish_all(self, lane: _Lane) -> None:
        try:
            while lane.entries:
                if not await self._publish_first(lane):
                    await asyncio.sleep(RETRY_S)
        finally:
            lane.driven = False
        del self._lanes[lane.camera]
        if not self._lanes:
            self._empty.set()

    async def _publish_first(self, lane: _Lane) -> bool:
        """Publish the oldest frame; False when the log is away."""
        lane.flying = entry = lane.entries[0]
        timer = self._loop.call_later(SPILL_S, self._be_late, lane)
        try:
            lost = await self._publish(entry)
        except UnavailableError as err:
            self._note_away(entry, err)
            self._be_late(lane)
            return False
        finally:
            timer.cancel()
            lane.flying = None
        if lost:
            await self._lose(lane, entry, lost)
        else:
            await self._acknowledge(lane, entry)
        return True

    async def _publish(self, entry: _Entry) -> str:
        """Publish a frame; return why it never can be, else nothing."""
        if self._too_old(entry):
            return "old"
        try:
            frame = await self._frame_of(entry)
        except MessageError as err:
            log.warning("a spooled frame is lost", frame=entry.header.frame_id, error=str(err))
            return "damaged"
        header = msgspec.structs.replace(frame.header, published_s=self._clock.now_s())
        try:
            await self._log.publish(frames_topic(header.region), header.camera, encode(header, frame.jpeg))
        except MessageError as err:
            log.warning("a frame is lost: the log refuses it", frame=entry.header.frame_id, error=str(err))
            return "refused"
        return ""

    async def _frame_of(self, entry: _Entry) -> GatedFrame:
        if entry.frame is not None:
            return entry.frame
        assert entry.kept is not None
        return await self._in_thread(entry.kept.spool.read, entry.kept)

    async def _acknowledge(self, lane: _Lane, entry: _Entry) -> None:
        labels = (entry.header.camera, entry.header.region)
        if entry.header.region in self._away:
            log.warning("the log takes frames again", region=entry.header.region, spooled=self.frames)
            self._away.discard(entry.header.region)
        self._metrics.frames_published.labels(*labels).inc()
        if entry.kept is not None:
            self._metrics.frames_drained.labels(*labels).inc()
        entry.acknowledged()
        await self._remove(lane, entry)

    async def _lose(self, lane: _Lane, entry: _Entry, reason: str) -> None:
        self._metrics.frames_lost.labels(entry.header.camera, entry.header.region, reason).inc()
        await self._remove(lane, entry)

    async def _remove(self, lane: _Lane, entry: _Entry) -> None:
        entry.done = True
        lane.entries.remove(entry)
        if entry.kept is not None:
            await self._finish(entry.kept)
        elif entry.frame is not None:
            lane.memory.remove(entry)
            lane.memory_bytes -= len(entry.frame.jpeg)
            lane.room.set()

    # The way to disk

    def _be_late(self, lane: _Lane) -> None:
        lane.late = True
        self._spill_soon(lane)

    def _spill_soon(self, lane: _Lane) -> None:
        if self._group is not None and lane.memory and not lane.spilling:
            lane.spilling = True
            self._group.create_task(self._spill(lane), name="spill")

    async def _spill(self, lane: _Lane) -> None:
        """Put a lane's frames on disk, oldest first, waiting for room."""
        try:
            while lane.memory:
                try:
                    await self._keep(lane)
                except SpoolFullError as err:
                    if not self._full:
                        log.warning("no room for more frames; cameras drop what they can't hand on", error=str(err))
                    self._full = True
                    await asyncio.sleep(ROOM_S)
                else:
                    self._full = False
        finally:
            lane.spilling = False

    async def _keep(self, lane: _Lane) -> None:
        """Put the first frame of a lane's memory on disk. Raises SpoolFullError."""
        entry = lane.memory[0]
        assert entry.frame is not None
        kept = await self._in_thread(self._spools[0].append, entry.frame)
        if entry.done:  # the log was faster
            await self._finish(kept)
            return
        self._metrics.frames_spooled.labels(entry.header.camera, entry.header.region).inc()
        lane.memory.popleft()
        lane.memory_bytes -= len(entry.frame.jpeg)
        entry.kept, entry.frame = kept, None
        self._show()
        lane.room.set()

    async def _keep_rest(self) -> None:
        """Put on disk what is in memory, at the end; what finds no room is lost."""
        for lane in list(self._lanes.values()):
            while lane.memory:
                try:
                    await self._keep(lane)
                except SpoolFullError as err:
                    log.warning("frames are lost: no room for them", error=str(err), frames=len(lane.memory))
                    for entry in list(lane.memory):
                        await self._lose(lane, entry, "full")

    async def _finish(self, kept: Kept) -> None:
        await self._in_thread(kept.spool.finish, kept)
        if kept.spool is not self._spools[0] and not kept.spool.frames:
            self._spools.remove(kept.spool)
            await self._in_thread(kept.spool.close)
        self._show()

    # What others left, and what is too old

    def _take_over(self, spool: Spool, left: Iterable[tuple[Kept, FrameHeader]]) -> None:
        """Put what is in a spool before what its cameras have sent since."""
        self._spools.append(spool)
        old: dict[str, list[_Entry]] = {}
        for kept, header in left:
            old.setdefault(header.camera, []).append(_Entry(header, self._loop.time(), kept=kept))
        for camera, entries in old.items():
            lane = self._lane(camera)
            lane.entries.extendleft(reversed(entries))
            self._be_late(lane)
            self._drive(lane)
        if old:
            log.info("frames of an earlier run are published first", frames=spool.frames, spool=str(spool.folder))
        if spool.damaged:
            log.warning("the spool was damaged; what could be read is published", pieces=spool.damaged, spool=str(spool.folder))
        self._show()

    async def _adopt(self) -> None:
        try:
            for spool, left in await self._in_thread(orphans, self._root, self._spools[0]):
                self._take_over(spool, left)
        except SettingsError as err:
            if str(err) != self._unreadable:
                log.warning("a spool of a dead process can't be read", error=str(err))
            self._unreadable = str(err)

    async def _forget_old(self) -> None:
        for lane in list(self._lanes.values()):
            for entry in list(lane.entries):
                if not self._too_old(entry):
                    break
                if entry is not lane.flying and not entry.done:
                    await self._lose(lane, entry, "old")

    def _too_old(self, entry: _Entry) -> bool:
        return self._clock.now_s() - entry.header.captured_s > self._bounds.age_s

    def _note_away(self, entry: _Entry, err: UnavailableError) -> None:
        self._metrics.publish_failures.labels(entry.header.region).inc()
        if entry.header.region not in self._away:
            log.warning("frames are spooled: the log is away", region=entry.header.region, error=str(err))
        self._away.add(entry.header.region)

    def _show(self) -> None:
        self._metrics.spool_frames.set(self.frames)
        self._metrics.spool_bytes.set(sum(spool.bytes for spool in self._spools))

    async def _in_thread(self, function: Callable[..., T], *args: object) -> T:
        return await self._loop.run_in_executor(self._files, function, *args)


@asynccontextmanager
async def open_spooling(
    log_port: Log, data_dir: Path, bounds: Bounds, *, vault: Vault, metrics: Metrics
) -> AsyncIterator[SpoolingPublisher]:
    """Open a publisher over a log, with its spool in ``data_dir/spool``; ``run`` makes it publish.

    Raises:
        SettingsError: the folder can't be used.
    """
    publisher = SpoolingPublisher(log_port, data_dir / SPOOL_FOLDER, bounds, vault=vault, metrics=metrics)
    await publisher.open()
    try:
        yield publisher
    finally:
        await publisher.close()
