"""The real servers that tests share: given by URL, or running from `make services`, or started for the session and stopped after it."""

import fcntl
import os
import threading
from pathlib import Path
from typing import IO

from cli.services.choose import check_url
from cli.services.local import LocalServers
from cli.services.model import Kind
from core.errors import UnavailableError
from ingest.urls import redact

ROOT = Path(__file__).parents[2]
VARIABLES: dict[Kind, str] = {
    "kafka": "SIGHTLINE_TEST_KAFKA_URL",
    "rabbitmq": "SIGHTLINE_TEST_AMQP_URL",
    "postgres": "SIGHTLINE_TEST_POSTGRES_URL",
}


class SharedServers:
    """Servers for all pytest processes of this checkout. The kernel counts the users (a shared file lock), so that a killed one counts no
    more; who leaves last stops what was started for tests."""

    def __init__(self) -> None:
        self._made = LocalServers(ROOT / ".services")
        self._own = LocalServers(ROOT / ".services" / "tests")
        self._users: IO[bytes] | None = None
        self._mutex = threading.Lock()
        self.facts: dict[str, str] = {}
        """Server -> version and where it came from, for the closing lines."""

    def url(self, kind: Kind) -> str:
        """Return where a server is. Raises UnavailableError with the reason."""
        given = os.environ.get(VARIABLES[kind])
        if given:
            try:
                version = check_url(kind, given)
            except UnavailableError as err:
                raise UnavailableError(f"{VARIABLES[kind]}={redact(given)}: {err}") from err
            self.facts[kind] = f"{kind} {version} at {redact(given)}"
            return given
        if self._made.status().get(kind) == "":
            self.facts[kind] = f"{kind} {self._made.version(kind)} from make services"
            return self._made.url(kind)
        with self._mutex:
            self._join()
            self._own.start(kind)
        self.facts[kind] = f"{kind} {self._own.version(kind)} local process"
        return self._own.url(kind)

    def leave(self) -> None:
        """Give up this process's share; the last one out stops the servers and removes their data."""
        if self._users is None:
            return
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pass  # another pytest process still uses them
        else:
            self._own.remove()
        self._users.close()
        self._users = None

    def _join(self) -> None:
        if self._users is None:
            folder = ROOT / ".services"
            folder.mkdir(exist_ok=True)
            self._users = (folder / "tests.users").open("ab")
            fcntl.flock(self._users, fcntl.LOCK_SH)
