"""What a local server is: which processes it takes, how to tell that it is ready, and where it is then."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from core.adapters.server_account import RunAs

Kind = Literal["postgres", "kafka", "rabbitmq", "prometheus"]
DEFAULT_KINDS: tuple[Kind, ...] = ("postgres", "kafka", "rabbitmq")
"""What a fleet needs. Prometheus only comes when asked for."""
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One process of a server; it leads a process group of its own."""

    name: str
    args: Sequence[str | Path]
    environment: Mapping[str, str] = field(default_factory=dict)
    """All of it: nothing of ours leaks into a server or steers it."""
    run_as: RunAs = field(default_factory=RunAs)
    stop_signal: int = 15
    """What asks it to shut down in good order."""


class LocalServer(Protocol):
    """A kind of server, as processes of this machine."""

    kind: Kind
    ports: tuple[str, ...]
    """Names of the ports it listens on; the first one is the service."""
    start_timeout_s: float

    def fetch(self) -> None:
        """Install the programs where they are missing. Raises UnavailableError, with what to do."""
        ...

    def prepare(self, folder: Path, ports: Mapping[str, int]) -> list[Command]:
        """Fetch, write the configuration, and return the processes to start, in order. Raises UnavailableError."""
        ...

    def version(self, ports: Mapping[str, int]) -> str:
        """Return the version of the server that answers. Raises UnavailableError while it is not ready."""
        ...

    def environment(self, ports: Mapping[str, int]) -> dict[str, str]:
        """Return the settings that lead to it, as environment variables; the first one is its URL."""
        ...
