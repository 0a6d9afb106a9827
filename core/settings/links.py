"""Other servers that processes talk to, and where they are asked how they are."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from core.settings.group import Group


class KafkaSettings(Group):
    """How the log is reached; only with ``log_url = "kafka://..."``."""

    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username: str = ""
    password: SecretStr = SecretStr("")
    replication: Annotated[int, Field(ge=1, le=7)] = 1
    """Copies of each partition of topics that we create; 3 on a real cluster."""


class BrokerSettings(Group):
    """How RabbitMQ is reached; only with ``broker_url = "amqp(s)://user@host/vhost"``."""

    password: SecretStr | None = None
    """Instead of one inside the URL."""
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


class MqttSettings(Group):
    """Where what is seen is published over MQTT; off without a URL."""

    url: Annotated[str, Field(pattern=r"^mqtts?://[^\s/@]+$")] | None = None
    """``mqtt://host:1883`` or ``mqtts://host:8883``."""
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None
    """Of the broker's certificate, where the system does not know its authority."""
    prefix: Annotated[str, Field(pattern=r"^[^+#/\s\x00][^+#\s\x00]{0,100}$")] = "sightline"
    """What all our topics begin with."""
    discovery_prefix: Annotated[str, Field(pattern=r"^[^+#\s\x00]{0,100}$")] = "homeassistant"
    """Of Home Assistant's MQTT discovery; empty = no discovery."""
    double_take: bool = False
    """Publish also what Double Take would: ``double-take/matches/NAME``, ``double-take/cameras/CAMERA``."""
    qos: Literal[0, 1, 2] = 1
    """0 may lose what is published while the broker goes away."""
    retain_names: bool = True
    """Whether the broker keeps the name of the last person of each camera; erased people's are taken back."""


class FrigateSettings(Group):
    """Frigate's events of people get the names of those who were seen; off without a URL, and without MQTT."""

    url: Annotated[str, Field(pattern=r"^https?://[!-~]+$")] | None = None
    """``http://frigate:5000``: where sub labels are written to."""
    topic: Annotated[str, Field(pattern=r"^[^+#\s\x00]{1,100}$")] = "frigate/events"
    cameras: dict[str, str] = Field(default_factory=dict)
    """Frigate's name of a camera -> ours; a camera that is not here has the same name."""


class MetricsSettings(Group):
    """Where a fleet process answers /metrics, /health/live and /health/ready."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """None = nowhere; 0 = any free port (told in the ``ready`` line)."""
