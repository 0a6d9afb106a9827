"""What every process of a fleet does around its work: say that it is ready, answer health checks and scrapes, drain on a signal."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from cli.output import console, emit
from core.errors import SettingsError
from core.metrics import CONTENT_TYPE, Metrics
from core.runner import Service, run_services
from core.settings import MetricsSettings, Settings

GRACE_S = 2.0  # a scrape in flight may finish
READY_POLL_S = 0.1

Check = Callable[[], Awaitable[str]]
"""Returns "" when all is well, else in one line what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process of the fleet."""

    name: str
    """As in ``sightline NAME``."""
    settings: Settings
    metrics: Metrics
    check: Check
    """For /health/ready."""


async def run_process(process: Process, services: Sequence[Service], *, as_json: bool, stop: asyncio.Event | None = None) -> None:
    """Run until a signal, ``stop``, or the death of a service; tell on stdout (JSON) or stderr when the process is ready.

    Raises:
        Exception: what a service died of.
    """
    async with health_server(process) as port:
        announce = Service(name="ready", run=lambda: _announce(process, port, as_json=as_json))
        await run_services([*services, announce], stop or asyncio.Event())


async def _announce(process: Process, port: int | None, *, as_json: bool) -> None:
    """Say once that everything is there."""
    while await process.check():  # noqa: ASYNC110 - what is checked lies in other processes: there is no event to wait for
        await asyncio.sleep(READY_POLL_S)
    if as_json:
        emit({"event": "ready", "process": process.name, "metrics_port": port})
    else:
        where = f" · metrics on {process.settings.metrics.host}:{port}" if port else ""
        console().print(f"[bold]sightline {process.name}[/] is ready{where} · Ctrl-C drains")


@asynccontextmanager
async def health_server(process: Process) -> AsyncIterator[int | None]:
    """Serve /metrics, /health/live and /health/ready inside the block; yield the port, None when the settings name none.

    Raises:
        SettingsError: the port is taken.
    """
    where: MetricsSettings = process.settings.metrics
    if where.port is None:
        yield None
        return
    runner = web.AppRunner(_app(process), access_log=None, shutdown_timeout=GRACE_S)
    await runner.setup()
    try:
        site = web.TCPSite(runner, where.host, where.port)
        try:
            await site.start()
        except OSError as err:
            raise SettingsError(f"metrics.port: can't listen on {where.host}:{where.port}: {err.strerror}; choose another") from err
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _app(process: Process) -> web.Application:
    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=process.metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    async def live(_request: web.Request) -> web.Response:
        return web.Response(text="live\n")

    async def ready(_request: web.Request) -> web.Response:
        problem = await process.check()
        return web.Response(text=(problem or "ready") + "\n", status=503 if problem else 200)

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/health/live", live), web.get("/health/ready", ready)])
    return app


def require_fleet(settings: Settings, *, database: bool = True, log: bool = True, broker: bool = True) -> None:
    """Check that the settings name servers that several processes can share.

    Raises:
        SettingsError: naming each that does not.
    """
    lacking = []
    if database and settings.database_url == "embedded:" and not settings.data_dir.exists():
        lacking.append("database_url: postgresql://user:password@host/name (or a data folder that all processes of this machine share)")
    if log and settings.log_url == "memory:":
        lacking.append("log_url: kafka://host:port")
    if broker and settings.broker_url == "memory:":
        lacking.append("broker_url: amqp://user:password@host:port/vhost")
    if lacking:
        raise SettingsError(
            "a process of a fleet needs shared servers; set in the environment (SIGHTLINE_...) or sightline.toml: " + "; ".join(lacking)
        )
