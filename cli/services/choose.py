"""Where a server comes from: the URL that the settings name, else a container, else processes of this machine."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from cli.services.compose import compose_file, compose_running, compose_stop, compose_up, compose_url, engine_runs
from cli.services.handshake import amqp_version, kafka_brokers, postgres_version
from cli.services.local import LocalServers
from cli.services.model import Kind
from core.errors import UnavailableError
from core.settings import Settings

How = Literal["settings", "container", "local process"]
VARIABLES: dict[Kind, str] = {
    "postgres": "SIGHTLINE_DATABASE_URL",
    "kafka": "SIGHTLINE_LOG_URL",
    "rabbitmq": "SIGHTLINE_BROKER_URL",
    "prometheus": "PROMETHEUS_URL",
}
OURS: dict[Kind, frozenset[str]] = {
    "postgres": frozenset({"embedded:"}),
    "kafka": frozenset({"memory:"}),
    "rabbitmq": frozenset({"memory:"}),
}
"""Settings that name no server."""
DEFAULT_PORTS = {"amqp": 5672, "amqps": 5671, "kafka": 9092, "postgresql": 5432, "postgres": 5432}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A server, or why there is none."""

    kind: Kind
    how: How
    url: str = ""
    version: str = ""
    problem: str = ""


def given_url(settings: Settings, kind: Kind) -> str:
    """Return the URL of a server that the settings name, or ""."""
    urls: dict[Kind, str] = {"postgres": settings.database_url, "kafka": settings.log_url, "rabbitmq": settings.broker_url}
    url = urls.get(kind, "")
    return "" if url in OURS.get(kind, frozenset()) else url


def check_url(kind: Kind, url: str) -> str:
    """Return the version of the server at a URL, or "" where it is not told before a login. Raises UnavailableError."""
    place = url if "," not in url else url.split(",")[0]  # Kafka's list of brokers: any of them leads to the others
    parts = urlsplit(place)
    host, port = parts.hostname or "127.0.0.1", parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
    if kind == "rabbitmq":
        return amqp_version(host, port)
    if kind == "postgres":
        return postgres_version(host, port, user=parts.username or "postgres", database=parts.path.strip("/") or "postgres")
    kafka_brokers(host, port)
    return ""


def start_servers(settings: Settings, servers: LocalServers, kinds: Sequence[Kind]) -> list[Found]:
    """Find or start each server, by the first way that there is."""
    given = [kind for kind in kinds if given_url(settings, kind)]
    file = compose_file()
    # a server that was started here as a process goes on as one, whatever has been installed since
    rest = [kind for kind in kinds if kind not in given]
    contained = rest if file and rest and not servers.status() and engine_runs() else []
    local = [kind for kind in rest if kind not in contained]
    found = [_checked(kind, "settings", lambda kind=kind: given_url(settings, kind)) for kind in given]  # type: ignore[misc]
    if file and contained:
        found += _start_containers(file, contained)
    for kind, problem in servers.try_start(local).items():
        if problem:
            found.append(Found(kind=kind, how="local process", problem=problem))
        else:
            found.append(Found(kind=kind, how="local process", url=servers.url(kind), version=servers.version(kind)))
    return sorted(found, key=lambda server: list(kinds).index(server.kind))


def stop_servers(servers: LocalServers, kinds: Iterable[Kind] | None = None) -> list[Kind]:
    """Stop what ``start_servers`` started, and return which; servers that the settings name are not ours to stop."""
    stopped = [kind for kind in servers.status() if kinds is None or kind in kinds]
    servers.stop(stopped)
    file = compose_file()
    if file and not stopped and engine_runs():
        running = compose_running(file)
        stopped = [kind for kind in VARIABLES if kind in running and (kinds is None or kind in kinds)]
        if stopped:
            compose_stop(file, stopped)
    return stopped


def server_status(settings: Settings, servers: LocalServers, kinds: Sequence[Kind]) -> list[Found]:
    """Return how each server is, starting nothing."""
    local = servers.status()
    file = compose_file()
    running = compose_running(file) if file and not local and engine_runs() else set()
    found = []
    for kind in kinds:
        if url := given_url(settings, kind):
            found.append(_checked(kind, "settings", lambda url=url: url))  # type: ignore[misc]
        elif kind in local:
            found.append(Found(kind=kind, how="local process", url=servers.url(kind), version=servers.version(kind), problem=local[kind]))
        elif file and kind in running:
            found.append(_checked(kind, "container", lambda kind=kind: compose_url(file, kind)))  # type: ignore[misc]
        else:
            found.append(Found(kind=kind, how="local process", problem="not started"))
    return found


def _start_containers(file: Path, kinds: Sequence[Kind]) -> list[Found]:
    try:
        compose_up(file, kinds)
    except UnavailableError as err:
        return [Found(kind=kind, how="container", problem=str(err)) for kind in kinds]
    return [_checked(kind, "container", lambda kind=kind: compose_url(file, kind)) for kind in kinds]  # type: ignore[misc]


def _checked(kind: Kind, how: How, url_of: Callable[[], str]) -> Found:
    url = ""
    try:
        url = url_of()
        return Found(kind=kind, how=how, url=url, version=check_url(kind, url) if kind != "prometheus" else "")
    except UnavailableError as err:
        return Found(kind=kind, how=how, url=url, problem=str(err))
