"""What tests do to a RabbitMQ behind the adapter's back: delete and redeclare queues, and ask the node for things with rabbitmqctl."""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pika

from cli.services.install import find_program
from cli.services.local import LocalServers
from cli.services.model import LOOPBACK
from cli.services.rabbitmq import PACKAGES, SCRIPTS


def declare_queue(url: str, name: str, **how: Any) -> None:
    """Declare a queue, as somebody else would."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        connection.channel().queue_declare(name, **how)


def forget(url: str, names: Iterable[str]) -> None:
    """Delete queues and exchanges of these names, their dead letters too."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        for name in names:
            channel.queue_delete(name)
            channel.queue_delete("dead." + name)
            channel.exchange_delete(name)


def rabbitmqctl(servers: LocalServers, folder: Path, *args: str) -> str:
    """Run rabbitmqctl against the node of a LocalServers folder."""
    environment = {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C.UTF-8",
        "HOME": str(folder / "rabbitmq"),
        "ERL_EPMD_PORT": str(servers.port("rabbitmq", "names_port")),
        "ERL_EPMD_ADDRESS": LOOPBACK,
        "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq" / "rabbitmq-env.conf"),
    }
    inner = Path(SCRIPTS) / "rabbitmqctl"  # not the wrapper that changes to the account ``rabbitmq``
    program = inner if inner.exists() else find_program("rabbitmqctl", PACKAGES)
    node = f"sightline-{servers.port('rabbitmq')}@localhost"
    command = [str(program), "-n", node, *args]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60).stdout
