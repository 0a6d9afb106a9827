"""Composition of the search of the past."""

from contextlib import AbstractAsyncContextManager
from datetime import timedelta

from api.history.follow import History, open_history
from cli.compose import Gallery
from core.settings import Settings
from sightings.store import SightingStore


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
