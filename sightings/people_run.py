"""Places strangers with unknown persons as their sightings end: one process of the deployment at a time, in the order of their ends."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog

from core.errors import UnavailableError
from core.metrics import Metrics
from core.ports import Database
from core.types import F32
from embed.calibration import Calibration
from sightings.people import Bounds, place
from sightings.people_store import PersonStore
from sightings.record import SeenFace

LOCK = "select pg_try_advisory_xact_lock(hashtextextended('sightline/persons', 0)) as mine"
POLL_S = 2.0
STANDBY_S = 5.0  # how soon another process takes over
BATCH = 100
NEAREST = 64  # exemplars looked at: eight persons with all of theirs

_log = structlog.get_logger(__name__)


class Exemplars(Protocol):
    """Finds exemplars by face. Sightings that are exemplars no more may still be found."""

    async def put(self, faces: Sequence[SeenFace]) -> None:
        """Add exemplars."""
        ...

    async def remove(self, sighting_ids: Sequence[str]) -> None:
        """Remove exemplars."""
        ...

    async def near(self, vector: F32, *, k: int, least: float) -> list[str]:
        """Return the sightings of up to k nearest exemplars that reach a score."""
        ...


class Placing:
    """Thread rule: one event loop."""

    def __init__(
        self, *, db: Database, exemplars: Exemplars, calibration: Calibration, far: float, metrics: Metrics, poll_s: float = POLL_S
    ) -> None:
        """Compose.

        Args:
            db: the database.
            exemplars: an empty index of faces.
            calibration: of the embedder in use; faces of other models are nobody's.
            far: chance that a stranger joins any person wrongly.
            metrics: of the process.
            poll_s: how often to look for sightings that have ended.
        """
        self._db = db
        self._store = PersonStore(db)
        self._exemplars = exemplars
        self._calibration = calibration
        self._far = far
        self._metrics = metrics
        self._poll_s = poll_s

    async def run(self) -> None:
        """Place strangers while this process is the one that does, until cancelled."""
        while True:
            try:
                async with self._db.transaction() as held:
                    if (await held.fetch(LOCK))[0]["mine"]:
                        await self.load()
                        while True:
                            await held.fetch("select 1")  # the lock is ours as long as its connection lives
                            if not await self.place_all():
                                await asyncio.sleep(self._poll_s)
            except UnavailableError as err:
                _log.warning("unknown persons wait", reason=str(err))
            await asyncio.sleep(STANDBY_S)

    async def load(self) -> None:
        """Read all exemplars. Raises UnavailableError."""
        await self._exemplars.put([face for _, face in await self._store.exemplars(self._calibration.model)])

    async def place_all(self) -> int:
        """Place a batch of strangers, the earliest first, and return how many there were. Raises UnavailableError."""
        faces, faceless = await self._store.unchecked(BATCH)
        if not faces and not faceless:
            return 0
        other = [face.sighting_id for face in faces if face.model != self._calibration.model]
        await self._store.leave_out([*faceless, *other])
        bounds = Bounds.of(self._calibration, far=self._far, persons=await self._store.count())
        for face in faces:
            if face.model == self._calibration.model:
                await self._place(face, bounds)
        return len(faces) + len(faceless)

    async def _place(self, face: SeenFace, bounds: Bounds) -> None:
        near = await self._exemplars.near(face.embedding, k=NEAREST, least=bounds.join)
        owners = await self._store.owners(near)
        if stale := [key for key in near if key not in owners]:
            await self._exemplars.remove(stale)
        persons: dict[str, list[F32]] = {}
        for person_id, exemplar in await self._store.exemplars(self._calibration.model, sorted(set(owners.values()))):
            persons.setdefault(person_id, []).append(exemplar.embedding)
        placed = place(face, persons, bounds)
        entered = await self._store.enter(face, placed)
        self._metrics.persons_seen.labels(placed.verdict).inc()
        if entered is not None and placed.exemplar:
            await self._exemplars.put([face])
