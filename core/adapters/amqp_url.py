"""Where RabbitMQ is and how to log in: the broker URL and its settings, checked once, with nothing secret in its text."""

import ssl
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

import pika

from core.errors import SettingsError
from core.settings import BrokerSettings

PORTS: Final = {"amqp": 5672, "amqps": 5671}
HEARTBEAT_S: Final = 10  # the server sends a sign of life twice in this time, and expects one
FRAME_MAX_BYTES: Final = 131_072  # RabbitMQ's own default, and the most that pika can do
_SHAPE: Final = "amqp://user:password@host:port/vhost (amqps:// with TLS)"


@dataclass(frozen=True, slots=True, kw_only=True)
class AmqpAddress:
    """A RabbitMQ server and an account on it. ``str()`` is for people: it holds no password."""

    host: str
    port: int
    vhost: str
    user: str
    password: str = field(repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def parameters(self, name: str) -> pika.ConnectionParameters:
        """Return pika's parameters of a connection; the server lists it under ``name``."""
        return pika.ConnectionParameters(
            host=self.host,
            port=self.port,
            virtual_host=self.vhost,
            credentials=pika.PlainCredentials(self.user, self.password),
            heartbeat=HEARTBEAT_S,
            frame_max=FRAME_MAX_BYTES,
            client_properties={"connection_name": name, "product": "sightline"},
        )


def parse_amqp_url(url: str, settings: BrokerSettings) -> AmqpAddress:
    """Read ``amqp://user:password@host:port/vhost``; ``broker.password`` replaces the URL's, an empty vhost is ``/``.

    Raises:
        SettingsError: the URL or a TLS file can't be used; the text quotes no part of the URL that may be secret.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as err:
        raise SettingsError(f"broker_url: {_without_quotes(err)}; expected {_SHAPE}") from None
    if parts.scheme not in PORTS or not parts.hostname:
        raise SettingsError(f"broker_url: expected {_SHAPE}")
    if parts.query or parts.fragment:
        raise SettingsError("broker_url: options after ? or # are not known; use the settings broker.ca_file, cert_file, key_file")
    password = unquote(parts.password or "guest") if settings.password is None else settings.password.get_secret_value()
    return AmqpAddress(
        host=parts.hostname,
        port=port or PORTS[parts.scheme],
        vhost=unquote(parts.path[1:]) or "/",
        user=unquote(parts.username or "guest"),
        password=password,
        tls=_tls(parts.scheme, settings),
    )


def _without_quotes(err: ValueError) -> str:
    """Return the first words of an error of urllib, which quotes the part of the URL it stumbled over."""
    return "the port is no number from 0 to 65535" if "ort" in str(err) else "it can't be read"


def _tls(scheme: str, settings: BrokerSettings) -> ssl.SSLContext | None:
    named = [name for name in ("ca_file", "cert_file", "key_file") if getattr(settings, name) is not None]
    if scheme == "amqp":
        if named:
            raise SettingsError(f"broker.{named[0]}: needs a broker_url that begins with amqps://")
        return None
    if settings.key_file is not None and settings.cert_file is None:
        raise SettingsError("broker.key_file: needs broker.cert_file too")
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as err:
        raise SettingsError(f"broker.ca_file: {settings.ca_file}: {_reason(err)}") from err
    if settings.cert_file is not None:
        try:
            context.load_cert_chain(settings.cert_file, settings.key_file, password=_no_pass_phrase)
        except (OSError, ssl.SSLError, ValueError) as err:
            raise SettingsError(f"broker.cert_file: {settings.cert_file}: {_reason(err)}") from err
    return context


def _no_pass_phrase() -> str:
    """Answer OpenSSL, which would otherwise ask the terminal of a service for the key's pass phrase."""
    raise ValueError("the key has a pass phrase; store it without one, readable by this user only")


def _reason(err: Exception) -> str:
    return str(getattr(err, "strerror", None) or err)
