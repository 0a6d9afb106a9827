"""What librdkafka is told: addresses, security, and the choices that make a Log of it. No I/O but looking whether files are there."""

import os
import re
from pathlib import Path
from typing import Any

from core.errors import SettingsError
from core.settings import KafkaSettings

SCHEME = "kafka://"
DEFAULT_PORT = 9092
ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>\d{1,5}))?")

MAX_RECORD_BYTES = 16 << 20  # a 4K frame as JPEG at quality 95 is 4 to 8 MB
MAX_DEAD_LETTER_BYTES = MAX_RECORD_BYTES + (1 << 20)  # the record, and why it is dead
DELIVERY_S = 4.0  # unacknowledged for so long, a record goes to the spool; librdkafka looks once a second, so at most 5 s
LINGER_MS = 1  # frames come one by one: waiting longer to fill a batch buys nothing and costs latency
QUEUE_BYTES = 64 << 20  # of the producer: about 1000 frames
SESSION_S = 6.0  # a killed member's partitions move after this long; half of the platform's aim of 10 s for a takeover
HEARTBEAT_S = 2.0
PATTERN_REFRESH_S = 5.0  # a new region's topic is seen this soon
PREFETCH_BYTES = 4 << 20  # librdkafka's own buffer, which a pause throws away and fetches again: a few dozen frames


def bootstrap_servers(url: str) -> str:
    """Return ``host:port,host:port`` of ``kafka://host[:port],...``.

    Raises:
        SettingsError: in one line, never repeating a password.
    """
    if not url.startswith(SCHEME):
        raise SettingsError("log_url: expected kafka://host:port,host:port")
    rest = url.removeprefix(SCHEME).rstrip("/")
    if "@" in rest:
        raise SettingsError("log_url: put the user name and password into kafka.username and kafka.password, not into the URL")
    servers = []
    for part in rest.split(","):
        found = ADDRESS.fullmatch(part.strip())
        port = int((found and found["port"]) or DEFAULT_PORT)
        if found is None or not 0 < port < 65536:
            raise SettingsError(f"log_url: {part.strip() or 'an empty address'!r} is not host:port; expected kafka://host:port,host:port")
        servers.append(f"{found['host']}:{port}")
    return ",".join(servers)


def client_config(url: str, settings: KafkaSettings) -> dict[str, Any]:
    """Return what producers, consumers and admin clients share.

    Raises:
        SettingsError: every problem of the URL, the files and the credentials, in one line.
    """
    problems = _problems(settings)
    servers = ""
    try:
        servers = bootstrap_servers(url)
    except SettingsError as err:
        problems.insert(0, str(err))
    if problems:
        raise SettingsError("; ".join(problems))
    config: dict[str, Any] = {
        "bootstrap.servers": servers,
        "client.id": "sightline",
        "security.protocol": f"{'SASL_' if settings.sasl_mechanism else ''}{'SSL' if settings.tls else 'PLAINTEXT'}",
        "socket.keepalive.enable": True,
        "socket.nagle.disable": True,
        "socket.timeout.ms": 6000,  # a broker behind a dead network is noticed so soon, not after a minute
        "socket.connection.setup.timeout.ms": 5000,
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": 2000,  # after an outage all are back within seconds
        "allow.auto.create.topics": False,
        "log.connection.close": False,  # brokers close idle connections: no news
    }
    if settings.sasl_mechanism:
        config |= {
            "sasl.mechanism": settings.sasl_mechanism,
            "sasl.username": settings.username,
            "sasl.password": settings.password.get_secret_value(),
        }
    files = {"ssl.ca.location": settings.ca_file, "ssl.certificate.location": settings.cert_file, "ssl.key.location": settings.key_file}
    if settings.tls:
        config |= {name: str(path) for name, path in files.items() if path is not None}
    return config


def producer_config(base: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of an idempotent producer whose acknowledgements mean that every in-sync replica has the record."""
    return base | {
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "none",  # JPEG does not shrink
        "linger.ms": LINGER_MS,
        "delivery.timeout.ms": int(DELIVERY_S * 1000),
        "request.timeout.ms": int(DELIVERY_S * 1000),
        "message.max.bytes": MAX_DEAD_LETTER_BYTES,
        "queue.buffering.max.messages": 10_000,
        "queue.buffering.max.kbytes": QUEUE_BYTES >> 10,
        "partitioner": "murmur2_random",  # as Java's: other producers of a camera's frames meet in the same partition
        "topic.metadata.refresh.interval.ms": 10_000,  # a topic that grew or came
        "topic.metadata.propagation.max.ms": 2000,  # then it is said that there is no such topic
    }


def consumer_config(base: dict[str, Any], group: str) -> dict[str, Any]:
    """Return the settings of a member of a group."""
    return base | {
        "group.id": group,
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": int(SESSION_S * 1000),
        "heartbeat.interval.ms": int(HEARTBEAT_S * 1000),
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "check.crcs": True,
        "topic.metadata.refresh.interval.ms": int(PATTERN_REFRESH_S * 1000),
        "fetch.message.max.bytes": 1 << 20,
        "receive.message.max.bytes": 100_000_000,
        "queued.max.messages.kbytes": PREFETCH_BYTES >> 10,
        "fetch.queue.backoff.ms": 20,  # librdkafka's 1000 would show as a second of latency after each burst
    }


def subscription(topics: tuple[str, ...]) -> list[str]:
    """Return librdkafka's names: ``frames.*`` becomes a regular expression from the beginning of the name, so not ``dead.frames.x``."""
    return ["^" + name[:-1].replace(".", "\\.") + ".*" if name.endswith("*") else name for name in topics]


def _problems(settings: KafkaSettings) -> list[str]:
    problems = []
    files = {"ca_file": settings.ca_file, "cert_file": settings.cert_file, "key_file": settings.key_file}
    given = {name: path for name, path in files.items() if path is not None}
    if given and not settings.tls:
        problems.append(f"kafka.{next(iter(given))} is given, but kafka.tls is off; set kafka.tls = true")
    problems += [f"kafka.{name}: {path} {fault}" for name, path in given.items() if (fault := _fault(path))]
    if (settings.cert_file is None) != (settings.key_file is None):
        problems.append("kafka.cert_file and kafka.key_file belong together; give both or neither")
    password = settings.password.get_secret_value()
    if settings.sasl_mechanism and not (settings.username and password):
        problems.append(f"kafka.sasl_mechanism {settings.sasl_mechanism} needs kafka.username and kafka.password")
    if not settings.sasl_mechanism and (settings.username or password):
        problems.append("kafka.username or kafka.password is given, but kafka.sasl_mechanism is not; set it to what the brokers ask for")
    return problems


def _fault(path: Path) -> str:
    if not path.is_file():
        return "is not a file"
    return "" if os.access(path, os.R_OK) else "can't be read"
