"""Composition of the HTTP API: what it needs, and what runs beside it; the same in a standalone platform and in a process of a fleet."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from api.access.authenticator import Authenticator
from api.app import build_app, serve
from api.history.follow import History
from api.jobs.runner import JobRunner
from api.live.cameras import tell_cameras
from api.live.hub import EventHub
from api.live.views import ListsCameras, Viewer
from api.recognize.cache import LookCache
from api.services import ApiServices
from api.system.models import ReadyCheck
from api.webhooks.dispatch import dispatcher_of
from cli.compose import Gallery
from cli.history import placing_of
from core.errors import UnavailableError
from core.ports import ObjectStore
from core.runner import Service
from sightings.store import SightingStore


def api_parts(gallery: Gallery, history: History, objects: ObjectStore, cameras: ListsCameras) -> ApiServices:
    """Return the parts behind the API.

    Args:
        gallery: of this process.
        history: searches the past.
        objects: uploads, and what jobs read and leave.
        cameras: says how the cameras are.
    """
    settings = gallery.settings
    sightings = SightingStore(gallery.db, episode_gap=timedelta(seconds=settings.sightings.episode_gap_s))
    return ApiServices(
        settings=settings,
        metrics=gallery.metrics,
        db=gallery.db,
        access=Authenticator(gallery.db, settings, gallery.metrics),
        events=EventHub(Viewer(db=gallery.db, sightings=sightings, cameras=cameras)),
        sightings=sightings,
        gallery=gallery.store,
        enroller=gallery.enroller,
        still=gallery.still,
        history=history,
        looks=LookCache(most_bytes=settings.api.cache_bytes, metrics=gallery.metrics),
        await_visible=gallery.matching.await_visible,
        policy=gallery.policy,
        book=gallery.book,
        matcher=gallery.matcher,
        objects=objects,
        readiness=lambda: readiness(gallery),
        cameras=cameras,
    )


def serving(parts: ApiServices, gallery: Gallery, jobs: JobRunner) -> list[Service]:
    """Return the services of a process that serves the API; the API stops first, so that requests in flight have all others."""

    async def serve_api() -> None:
        async with serve(build_app(parts)):
            await asyncio.Event().wait()

    settings = parts.settings
    return [
        Service(name="api", run=serve_api),
        Service(name="access", run=parts.access.run),
        Service(name="history", run=parts.history.run),
        Service(name="jobs", run=jobs.run),
        Service(name="result cache", run=lambda: parts.looks.follow(parts.db)),
        Service(name="live events", run=parts.events.run),
        Service(name="webhooks", run=dispatcher_of(settings, parts.events, parts.metrics).run),
        Service(name="camera events", run=lambda: tell_cameras(parts.db, parts.cameras)),
        *([Service(name="persons", run=placing_of(settings, gallery).run)] if settings.history.persons else []),
    ]


async def readiness(gallery: Gallery) -> Sequence[ReadyCheck]:
    """Say of each thing that must work whether it does."""
    models = ReadyCheck(name="models", ok=True)
    try:
        await gallery.db.fetch("select 1")
        problem = await gallery.matching.problem()
    except UnavailableError as err:
        return [ReadyCheck(name="database", ok=False, reason=str(err)), models]
    return [ReadyCheck(name="database", ok=True), models, ReadyCheck(name="matcher", ok=not problem, reason=problem)]
