"""The same servers in containers, by ``deploy/compose.yml``, where a container engine runs."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import msgspec

from cli.services.model import LOOPBACK, Kind
from core.errors import UnavailableError

PROBE_TIMEOUT_S = 10.0
UP_TIMEOUT_S = 900.0  # the first time, images are fetched


class _Port(msgspec.Struct, frozen=True):
    target: int
    published: str = ""


class _Service(msgspec.Struct, frozen=True):
    environment: dict[str, str | None] = {}
    ports: tuple[_Port, ...] = ()


class _Project(msgspec.Struct, frozen=True):
    services: dict[str, _Service]


def compose_file() -> Path | None:
    """Return the project's compose file, None where the package was installed without it."""
    path = Path(__file__).parents[2] / "deploy" / "compose.yml"
    return path if path.is_file() else None


def engine_runs() -> bool:
    """Return whether a container engine with compose answers."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        for question in (["info"], ["compose", "version"]):
            subprocess.run([docker, *question], check=True, capture_output=True, timeout=PROBE_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def compose_up(file: Path, kinds: Sequence[Kind]) -> None:
    """Start services and wait until they are healthy. Raises UnavailableError."""
    _compose(file, ["up", "--detach", "--wait", *kinds], timeout_s=UP_TIMEOUT_S)


def compose_stop(file: Path, kinds: Sequence[Kind]) -> None:
    """Stop services; their volumes stay. Raises UnavailableError."""
    _compose(file, ["stop", *kinds], timeout_s=UP_TIMEOUT_S)


def compose_running(file: Path) -> set[str]:
    """Return the names of the services that run. Raises UnavailableError."""
    return set(_compose(file, ["ps", "--services", "--status", "running"], timeout_s=PROBE_TIMEOUT_S).split())


def compose_url(file: Path, kind: Kind) -> str:
    """Return where a service is, as seen from this machine. Raises UnavailableError."""
    text = _compose(file, ["--profile", "*", "config", "--format", "json"], timeout_s=PROBE_TIMEOUT_S)
    try:
        service = msgspec.json.decode(text, type=_Project).services[kind]
        port = service.ports[0].published
        env = {key: quote(value or "", safe="") for key, value in service.environment.items()}
        match kind:
            case "kafka":
                return f"kafka://{LOOPBACK}:{port}"
            case "rabbitmq":
                return f"amqp://{env['RABBITMQ_DEFAULT_USER']}:{env['RABBITMQ_DEFAULT_PASS']}@{LOOPBACK}:{port}/%2F"
            case "postgres":
                return f"postgresql://{env['POSTGRES_USER']}:{env['POSTGRES_PASSWORD']}@{LOOPBACK}:{port}/{env['POSTGRES_DB']}"
            case "prometheus":
                return f"http://{LOOPBACK}:{port}"
    except (msgspec.DecodeError, KeyError, IndexError) as err:
        raise UnavailableError(f"{file} has no service {kind} with a published port: {err}") from err


def _compose(file: Path, words: Sequence[str], *, timeout_s: float) -> str:
    try:
        done = subprocess.run(["docker", "compose", "--file", file, *words], capture_output=True, text=True, timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as err:
        raise UnavailableError(f"docker compose {words[0]}: {err}") from err
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["it left no message"]
        raise UnavailableError(f"docker compose {words[0]}: {said[-1].strip()}")
    return done.stdout
