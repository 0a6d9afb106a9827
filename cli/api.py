"""``sightline api``: the HTTP API of a fleet, live events included. Any number of them may run, behind any balancer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cli.first_key import key_teller, tell_first_key
from cli.output import JSON_OPTION, run_async
from core.settings import Settings

if TYPE_CHECKING:
    from api.cameras.models import CameraView
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
    from api.security import check_api_settings
    from cli.compose import open_gallery
    from cli.history import open_history_for
    from cli.jobs import job_runner
    from cli.process import Process, require_fleet, run_process
    from cli.serving import api_parts, serving
    from core.secrets import SecretBox
    from ingest.cameras import CameraStore
    from ingest.leases import LeaseStore

    require_fleet(settings, log=False)
    check_api_settings(settings.api)
    async with open_gallery(settings) as gallery, open_history_for(settings, gallery) as history:
        await tell_first_key(gallery.db, settings, key_teller(as_json=as_json))
        jobs, leases = job_runner(gallery), LeaseStore(gallery.db)
        cameras = CameraStore(gallery.db, SecretBox(gallery.db.vault), allow=settings.outbound.camera_allow)
        parts = api_parts(gallery, history, jobs.objects, lambda: _camera_views(cameras, leases))

        async def check() -> str:
            return "; ".join(f"{one.name}: {one.reason}" for one in await parts.readiness() if not one.ok)

        process = Process(name="api", settings=settings, metrics=gallery.metrics, check=check)
        await run_process(process, serving(parts, gallery, jobs), as_json=as_json)


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
