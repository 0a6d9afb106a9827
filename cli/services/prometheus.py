"""Prometheus from Debian's package, with a configuration that the caller gives."""

import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import msgspec

from cli.services.install import find_program
from cli.services.model import LOOPBACK, Command, Kind
from core.errors import UnavailableError

TIMEOUT_S = 3.0
PACKAGES = ("prometheus",)


class PrometheusServer:
    """A Prometheus that scrapes what its configuration names."""

    kind: Kind = "prometheus"
    ports: tuple[str, ...] = ("port",)
    start_timeout_s = 60.0

    def __init__(self, config: Path | None = None) -> None:
        self._config = config

    def fetch(self) -> None:
        """Get Debian's package."""
        find_program("prometheus", PACKAGES)

    def prepare(self, folder: Path, ports: Mapping[str, int]) -> list[Command]:
        """Check the configuration and return the one process."""
        if self._config is None or not self._config.is_file():
            missing = f"; {self._config} is no file" if self._config else ""
            raise UnavailableError(f"it needs a configuration to scrape by: --scrape FILE{missing}")
        program = find_program("prometheus", PACKAGES)
        args: list[str | Path] = [program, f"--config.file={self._config.resolve()}", f"--storage.tsdb.path={folder / 'data'}"]
        args += [f"--web.listen-address={LOOPBACK}:{ports['port']}", "--web.enable-lifecycle"]
        return [Command(name="prometheus", args=args, environment={"PATH": "/usr/bin:/bin", "GOMAXPROCS": "1"})]

    def version(self, ports: Mapping[str, int]) -> str:
        """Return the version, once the server is ready to answer queries."""
        base = f"http://{LOOPBACK}:{ports['port']}"
        try:
            with urllib.request.urlopen(f"{base}/-/ready", timeout=TIMEOUT_S):
                pass
            with urllib.request.urlopen(f"{base}/api/v1/status/buildinfo", timeout=TIMEOUT_S) as answer:
                return str(msgspec.json.decode(answer.read())["data"]["version"])
        except (urllib.error.URLError, OSError) as err:
            raise UnavailableError(f"nothing ready at {base}: {err}") from err

    def environment(self, ports: Mapping[str, int]) -> dict[str, str]:
        """Return where its API is; no process of ours reads it."""
        return {"PROMETHEUS_URL": f"http://{LOOPBACK}:{ports['port']}"}
