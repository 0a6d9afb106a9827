"""The cameras of one ingester of a fleet: it shows that it lives, takes what is free, and gives what is more than its share."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from core.errors import ConflictError, UnavailableError
from core.metrics import Metrics
from ingest.balance import Held, Ingester, Move, balance, gives, takes
from ingest.camera import CameraStatus
from ingest.cameras import CameraSpec, CameraStore
from ingest.leases import CameraState, Identity, LeaseStore, Member, Sight

BEATS = 3  # signs of life per lease: two may be lost
LATE_BEATS = 1.7  # one that misses more than a beat is given nothing until it is back
BREAK_SHARE = 0.75  # of a lease without an answer of the database counts as a break of contact
DUE_S = 0.05  # a silent ingester is looked at again this long after its lease is over
MIN_LOOK_S = 0.2  # between two looks that changes ask for: a burst of changes is one look
RETRY_S = 1.0  # between attempts to listen while the database is away
LEAVE_S = 2.0  # a database that does not answer must not keep a process from ending; then its leases end by themselves

log = structlog.get_logger("ingest")


@dataclass(frozen=True, slots=True)
class _Share:
    """What one look at the fleet leads to."""

    mine: frozenset[str]
    giving: frozenset[str]
    """Held, but to be stopped and freed."""


class LeasedCameras:
    """Implements ``Cameras`` over leases. Thread rule: event loop.

    A camera is freed only after it was stopped (``settled``), so a move never runs it twice. While the database is away ``enabled`` raises
    UnavailableError and the cameras that run go on; an ingester that alone lost the database therefore runs its cameras beside those that
    took them over, until it is back: frames are worth more than their uniqueness.
    """

    def __init__(
        self,
        leases: LeaseStore,
        cameras: CameraStore,
        me: Identity,
        *,
        lease_s: float,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leases, self._cameras, self._me = leases, cameras, me
        self._lease_s, self._metrics, self._clock = lease_s, metrics, clock
        self._registered = False
        self._seen_s: float | None = None
        self._contact_s = 0.0
        self._share = _Share(frozenset(), frozenset())
        self._due_s = float("inf")
        self._heard = False
        self._wake = asyncio.Event()
        self._reported: dict[str, tuple[str, str]] = {}
        self._free_told: tuple[str, ...] = ()
        self.problem = "no look at the database yet"
        """Why the last look failed; empty when it did not."""

    async def enabled(self) -> Sequence[CameraSpec]:
        """Renew, take, and say which cameras are to run here now.

        Raises:
            UnavailableError: the database is away. ConflictError: another process goes by this name.
        """
        try:
            await self._renew()
            self._share = await self._agree(await self._living())
            specs = await self._cameras.specs(self._share.mine - self._share.giving)
        except UnavailableError as err:
            self.problem, self._seen_s = str(err), None
            raise
        finally:
            self._wake.set()
        self.problem = ""
        return specs

    async def settled(self, running: Sequence[CameraStatus]) -> None:
        """Free what was to be given and does not run any more; tell how the others are.

        Raises:
            UnavailableError: the database is away; the next look tries again.
        """
        free = self._share.giving - {status.camera for status in running}
        if free:
            await self._leases.give(self._me, free)
            self._share = _Share(self._share.mine - free, self._share.giving - free)
            self._note_moves("given", free)
        states: dict[str, tuple[str, str]] = {status.camera: (status.state, status.reason) for status in running}
        changed = [
            CameraState(camera=camera, ingester=self._me.id, state=state, reason=reason)
            for camera, (state, reason) in states.items()
            if self._reported.get(camera) != (state, reason)
        ]
        if changed:
            await self._leases.report(changed)
        self._reported = states

    async def watch(self, look: Callable[[], None]) -> None:
        """Ask for a look whenever the database tells of a change, a lease runs out or a sign of life is due, until cancelled; then leave.

        Stop the cameras before: leaving frees them.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._beat(look))
                group.create_task(self._listen())
        finally:
            await self._leave()

    async def _beat(self, look: Callable[[], None]) -> None:
        period_s = self._lease_s / BEATS
        looked_s, beat_s = float("-inf"), self._clock() + period_s
        while True:
            now_s = self._clock()
            due_s = min(beat_s, self._due_s, looked_s + MIN_LOOK_S if self._heard else float("inf"))
            if due_s <= now_s:
                self._heard, self._due_s = False, float("inf")
                looked_s, beat_s = now_s, now_s + period_s
                look()
                continue
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due_s - now_s):
                    await self._wake.wait()

    async def _listen(self) -> None:
        while True:
            try:
                async with self._leases.changes() as changes:
                    self._hear()  # of what happened while nobody listened
                    async for _ in changes:
                        self._hear()
            except UnavailableError as err:
                log.debug("changes of cameras are not heard; looking every few seconds", error=str(err))
            await asyncio.sleep(RETRY_S)

    def _hear(self) -> None:
        self._heard = True
        self._wake.set()

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._leases.leave(self._me)
        except (UnavailableError, TimeoutError) as err:
            log.warning("leases are not given back, they end by themselves", error=str(err), within_s=self._lease_s)

    async def _renew(self) -> None:
        """Give a sign of life, and note since when the database has been in contact without a break."""
        if not self._registered:
            await self._leases.register(self._me)
            self._registered = True
        elif not await self._leases.renew(self._me):
            log.warning("the other ingesters gave this one up; joining again", ingester=self._me.id)
            await self._leases.register(self._me)
        now_s = self._clock()
        if self._seen_s is None or now_s - self._seen_s > BREAK_SHARE * self._lease_s:
            self._contact_s = now_s
        self._seen_s = now_s

    async def _living(self) -> Sight:
        """Return who lives and the cameras; end the leases of the dead.

        Only one who was in contact for a whole lease judges: after an outage of the database everybody gets the time to show up.
        """
        sight = await self._leases.look(self._me.regions)
        judge = self._clock() - self._contact_s >= self._lease_s
        dead = [member.id for member in sight.members if member.id != self._me.id and member.silent_s > self._lease_s]
        if dead and judge:
            if await self._leases.expire(dead, self._lease_s):
                log.warning("ingesters are silent; their cameras are taken over", ingesters=dead)
            sight = await self._leases.look(self._me.regions)
        self._metrics.ingesters.set(len(sight.members))
        rest_s = min((self._lease_s - member.silent_s for member in sight.members if member.id != self._me.id), default=float("inf"))
        self._due_s = max(self._clock() + rest_s, self._contact_s + self._lease_s) + DUE_S
        return sight

    async def _agree(self, sight: Sight) -> _Share:
        """Take what is ours of the free cameras, and choose what to give."""
        fleet = [self._ingester(member) for member in sight.members]
        me = next((ingester for ingester in fleet if ingester.id == self._me.id), Ingester(id=self._me.id, load=0, takes=False))
        moves = balance(fleet, sight.cameras)
        wanted = takes(moves, me)
        if wanted:
            await self._take(wanted)
        held = await self._leases.held(self._me)
        self._note_moves("taken", held - self._share.mine)
        self._reported = {camera: told for camera, told in self._reported.items() if camera in held & self._share.mine}
        self._note_moves("lost", self._share.mine - held)
        self._metrics.leases.set(len(held))
        self._tell_free(sight.cameras, moves)
        return _Share(frozenset(held), frozenset(gives(moves, me)) | (held - sight.cameras.keys() - set(wanted)))

    async def _take(self, wanted: Iterable[str]) -> None:
        try:
            await self._leases.take(self._me, wanted)
        except ConflictError as err:  # our own row, or the camera, went away at this moment: the next look sees it
            log.info("cameras were not taken", error=str(err))

    def _ingester(self, member: Member) -> Ingester:
        late_s = LATE_BEATS * self._lease_s / BEATS
        takes_cameras = member.id == self._me.id or member.silent_s < late_s
        return Ingester(id=member.id, load=member.load, regions=member.regions, takes=takes_cameras)

    def _note_moves(self, way: str, cameras: Iterable[str]) -> None:
        names = sorted(cameras)
        if names:
            self._metrics.leases_moved.labels(way).inc(len(names))
            log.info(f"cameras {way}", ingester=self._me.id, cameras=names)

    def _tell_free(self, cameras: Mapping[str, Held], moves: Sequence[Move]) -> None:
        """Warn of cameras that no ingester is there for."""
        served = {move.camera for move in moves}
        free = tuple(sorted(name for name, held in cameras.items() if held.holder is None and name not in served))
        self._metrics.cameras_free.set(sum(held.holder is None for held in cameras.values()))
        if free and free != self._free_told:
            regions = sorted({cameras[name].region for name in free})
            log.warning("cameras run nowhere: no ingester serves their regions", cameras=len(free), regions=regions)
        self._free_told = free
