"""``sightline api``: the HTTP API of a fleet, live events included. Any number of them may run, behind any balancer."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cli.first_key import key_teller, tell_first_key
from cli.output import JSON_OPTION, run_async
from core.settings import Settings

if TYPE_CHECKING:
    from api.cameras.models import CameraView
    from api.history.follow import History
    from api.services import ApiServices
    from api.system.models import ReadyCheck
    from cli.compose import Gallery
    from core.ports import ObjectStore
    from ingest.cameras import CameraStore
    from ingest.leases import LeaseStore

app = typer.Typer(help="Serve the API of a fleet.")


@app.command()
def api(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on (default: this machine only).")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the API and the live page (default: 8400).")] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Serve the API of a fleet: enrolment, search, sightings, live events.

    Needs the database and the broker, and matchers that are ready. SIGTERM drains: requests in flight are answered.
    """
    settings: Settings = ctx.obj.settings()
    changes = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    run_async(_api(settings.model_copy(update={"api": settings.api.model_copy(update=changes)}), as_json=as_json))


async def _api(settings: Settings, *, as_json: bool) -> None:
    from api.app import build_app, serve
    from api.live.cameras import tell_cameras
    from api.security import check_api_settings
    from api.webhooks.dispatch import dispatcher_of
    from cli.compose import open_gallery
    from cli.history import open_history_for, placing_of
    from cli.jobs import job_runner
    from cli.process import Process, require_fleet, run_process
    from core.runner import Service

    require_fleet(settings, log=False)
    check_api_settings(settings.api)
    async with open_gallery(settings) as gallery, open_history_for(settings, gallery) as history:
        await tell_first_key(gallery.db, settings, key_teller(as_json=as_json))
        jobs = job_runner(gallery)
        services = _services(settings, gallery, history, jobs.objects)

        async def serving() -> None:
            async with serve(build_app(services)):
                await asyncio.Event().wait()

        async def check() -> str:
            return "; ".join(f"{one.name}: {one.reason}" for one in await _readiness(gallery) if not one.ok)

        process = Process(name="api", settings=settings, metrics=gallery.metrics, check=check)
        await run_process(
            process,
            [
                *([Service(name="persons", run=placing_of(settings, gallery).run)] if settings.history.persons else []),
                Service(name="access", run=services.access.run),
                Service(name="api", run=serving),
                Service(name="history", run=history.run),
                Service(name="jobs", run=jobs.run),
                Service(name="result cache", run=lambda: services.looks.follow(gallery.db)),
                Service(name="live events", run=services.events.run),
                Service(name="webhooks", run=dispatcher_of(settings, services.events, gallery.metrics).run),
                Service(name="camera events", run=lambda: tell_cameras(gallery.db, services.cameras)),
            ],
            as_json=as_json,
        )


def _services(settings: Settings, gallery: "Gallery", history: "History", objects: "ObjectStore") -> "ApiServices":
    """Return the parts behind the API; nothing is in this process but the models."""
    from datetime import timedelta

    from api.access.authenticator import Authenticator
    from api.cameras.models import CameraView
    from api.live.hub import EventHub
    from api.live.views import Viewer
    from api.recognize.cache import LookCache
    from api.services import ApiServices
    from core.secrets import SecretBox
    from ingest.cameras import CameraStore
    from ingest.leases import LeaseStore
    from sightings.store import SightingStore

    cameras, leases = CameraStore(gallery.db, SecretBox(gallery.db.vault), allow=settings.outbound.camera_allow), LeaseStore(gallery.db)
    sightings = SightingStore(gallery.db, episode_gap=timedelta(seconds=settings.sightings.episode_gap_s))

    async def camera_views() -> Sequence[CameraView]:
        return await _camera_views(cameras, leases)

    return ApiServices(
        settings=settings,
        metrics=gallery.metrics,
        db=gallery.db,
        access=Authenticator(gallery.db, settings, gallery.metrics),
        events=EventHub(Viewer(db=gallery.db, sightings=sightings, cameras=camera_views)),
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
        readiness=lambda: _readiness(gallery),
        cameras=camera_views,
    )


async def _readiness(gallery: "Gallery") -> Sequence["ReadyCheck"]:
    """Say of each thing that must work whether it does."""
    from api.system.models import ReadyCheck
    from core.errors import UnavailableError

    try:
        problem = await gallery.matching.problem()
    except UnavailableError as err:
        return [ReadyCheck(name="database", ok=False, reason=str(err)), ReadyCheck(name="models", ok=True)]
    return [
        ReadyCheck(name="database", ok=True),
        ReadyCheck(name="models", ok=True),
        ReadyCheck(name="matcher", ok=not problem, reason=problem),
    ]


async def _camera_views(cameras: "CameraStore", leases: "LeaseStore") -> Sequence["CameraView"]:
    """Return the cameras and how they are, as their ingesters told the database."""
    from api.cameras.models import CameraView

    states = await leases.states()
    views = []
    for camera in await cameras.list():
        now = states.get(camera.spec.name)
        waits = "no ingester runs it" if camera.enabled and now is None else ""
        views.append(CameraView.of(camera, state=now.state if now else "waiting", reason=now.reason if now else waits))
    return views
