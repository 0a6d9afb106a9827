"""RabbitMQ from Debian's package, as a node of its own beside any that the system runs."""

import shutil
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template

from cli.services.handshake import amqp_version
from cli.services.install import find_program
from cli.services.model import LOOPBACK, Command, Kind

SCRIPTS = "/usr/lib/rabbitmq/bin"
"""Not the wrapper of /usr/sbin, which changes to the account ``rabbitmq``: ours runs as whoever starts it."""
PACKAGES = ("rabbitmq-server",)
ERLANG_FOLDERS = ("/usr/lib/erlang/bin",)
ERLANG_OPTIONS = "+S 1:1 +A 8 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
"""One scheduler that sleeps when idle; distribution on the loopback interface only."""


class RabbitServer:
    """One node, with the management API and metrics."""

    kind: Kind = "rabbitmq"
    ports: tuple[str, ...] = ("port", "management_port", "metrics_port", "distribution_port", "names_port")
    start_timeout_s = 120.0

    def fetch(self) -> None:
        """Get Debian's packages."""
        find_program("rabbitmq-server", PACKAGES, folders=[SCRIPTS])
        find_program("epmd", PACKAGES, folders=ERLANG_FOLDERS)

    def prepare(self, folder: Path, ports: Mapping[str, int]) -> list[Command]:
        """Write the configuration and return the node's processes: Erlang's name server, then the node."""
        script = find_program("rabbitmq-server", PACKAGES, folders=[SCRIPTS])
        inner = Path(SCRIPTS) / "rabbitmq-server"
        if inner.exists():
            script = inner
        epmd = find_program("epmd", PACKAGES, folders=ERLANG_FOLDERS)
        numbers = {name: str(port) for name, port in ports.items()}
        (folder / "rabbitmq.conf").write_text(Template((files("cli") / "services" / "rabbitmq.conf").read_text()).substitute(numbers))
        (folder / "enabled_plugins").write_text("[rabbitmq_management,rabbitmq_prometheus].\n")
        shutil.rmtree(folder / "db" / f"{_node(ports)}-plugins-expand", ignore_errors=True)
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "LC_ALL": "C.UTF-8",
            "HOME": str(folder),  # of the Erlang cookie
            "RUNNING_UNDER_SYSTEMD": "true",  # become the node, with no shell in between to lose a signal in
            "RABBITMQ_NODENAME": _node(ports),
            "RABBITMQ_MNESIA_BASE": str(folder / "db"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),  # does not exist: the system's is not for us
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_DIST_PORT": numbers["distribution_port"],
            "ERL_EPMD_PORT": numbers["names_port"],
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG_OPTIONS,
        }
        names: list[str | Path] = [epmd, "-port", numbers["names_port"], "-address", LOOPBACK]
        return [
            Command(name="epmd", args=names, environment=environment),
            Command(name="rabbitmq", args=[script], environment=environment),
        ]

    def version(self, ports: Mapping[str, int]) -> str:
        """Return the version that the node presents itself with."""
        return amqp_version(LOOPBACK, ports["port"])

    def environment(self, ports: Mapping[str, int]) -> dict[str, str]:
        """Return the broker's URL."""
        return {"SIGHTLINE_BROKER_URL": f"amqp://guest:guest@{LOOPBACK}:{ports['port']}/%2F"}


def _node(ports: Mapping[str, int]) -> str:
    return f"sightline-{ports['port']}@localhost"
