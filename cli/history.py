"""Composition of the search of the past."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

from api.history.follow import History, open_history
from api.history.index import HistoryIndex, Wanted
from cli.compose import Gallery
from core.settings import Settings
from core.types import F32
from sightings.people_run import Placing
from sightings.record import SeenFace
from sightings.store import SightingStore

MOST_EXEMPLARS = 10_000_000  # 6 GB; a deployment with more strangers than this keeps them for too long


def open_history_for(settings: Settings, gallery: Gallery) -> AbstractAsyncContextManager[History]:
    """Open the search of the past for the embedder in use; it is empty until ``run``."""
    return open_history(
        gallery.db,
        SightingStore(gallery.db, episode_gap=timedelta(seconds=settings.sightings.episode_gap_s)),
        model=gallery.embedder.model,
        dimensions=gallery.embedder.dimensions,
        most=settings.history.max_sightings,
        metrics=gallery.metrics,
    )


class _Exemplars:
    """sightings.people_run.Exemplars over an index of this process."""

    def __init__(self, index: HistoryIndex) -> None:
        self._index = index

    async def put(self, faces: Sequence[SeenFace]) -> None:
        await asyncio.to_thread(self._index.put, faces)

    async def remove(self, sighting_ids: Sequence[str]) -> None:
        await asyncio.to_thread(self._index.remove, sighting_ids)

    async def near(self, vector: F32, *, k: int, least: float) -> list[str]:
        found = await asyncio.to_thread(self._index.search, vector, k, Wanted(), lambda _searched: least)
        return found.sighting_ids


def placing_of(settings: Settings, gallery: Gallery) -> Placing:
    """Return who places strangers with unknown persons; ``run`` does it in one process of the deployment at a time."""
    return Placing(
        db=gallery.db,
        exemplars=_Exemplars(HistoryIndex(gallery.embedder.dimensions, most=MOST_EXEMPLARS)),
        calibration=gallery.calibration,
        far=settings.history.person_far,
        metrics=gallery.metrics,
    )
