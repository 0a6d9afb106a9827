"""An MQTT broker, behind the few calls that we need: publish and be sure, subscribe, last will. The only importer of aiomqtt."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import aiomqtt

from core.errors import SettingsError, UnavailableError
from core.outbound import PORTS
from core.settings import MqttSettings

CALL_S: Final = 10.0
KEEPALIVE_S: Final = 20  # a broker that is cut off publishes our last will after 1.5 times this
MAX_INCOMING: Final = 1000
AT_ONCE: Final = 50  # messages on their way


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message of a topic."""

    topic: str
    payload: bytes
    retain: bool = False
    """The broker keeps it for whoever subscribes later; an empty payload takes it back."""


class MqttLink:
    """A connection to a broker, until it is lost. Thread rule: one event loop."""

    def __init__(self, client: aiomqtt.Client, qos: int) -> None:
        self._client, self._qos = client, qos

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish in order, and return when the broker has acknowledged all of it (qos 0: when it was sent).

        Raises:
            UnavailableError: it is not known which of it has arrived.
        """
        for start in range(0, len(messages), AT_ONCE):
            with _our_errors():
                some = messages[start : start + AT_ONCE]
                await asyncio.gather(*(self._client.publish(one.topic, one.payload, qos=self._qos, retain=one.retain) for one in some))

    async def subscribe(self, topic: str) -> None:
        """Receive the messages of a topic from now on. Raises UnavailableError."""
        with _our_errors():
            await self._client.subscribe(topic, qos=self._qos)

    async def messages(self) -> AsyncIterator[Message]:
        """Yield what is received, until the connection is lost. Raises UnavailableError."""
        with _our_errors():
            async for message in self._client.messages:
                payload = message.payload if isinstance(message.payload, bytes) else str(message.payload).encode()
                yield Message(topic=message.topic.value, payload=payload, retain=message.retain)


@asynccontextmanager
async def open_mqtt(settings: MqttSettings, *, will: Message) -> AsyncIterator[MqttLink]:
    """Connect; what the broker publishes when we are cut off is ``will``.

    Raises:
        UnavailableError: no broker, or the connection was lost. SettingsError: the certificate authority can't be read.
    """
    parts = urlsplit(settings.url or "")
    password = None if settings.password is None else settings.password.get_secret_value()
    client = aiomqtt.Client(
        parts.hostname or "",
        parts.port or PORTS[parts.scheme],
        username=settings.username,
        password=password,
        tls_context=_tls(settings) if parts.scheme == "mqtts" else None,
        will=aiomqtt.Will(will.topic, will.payload, qos=1, retain=will.retain),
        keepalive=KEEPALIVE_S,
        timeout=CALL_S,
        max_queued_incoming_messages=MAX_INCOMING,
    )
    client.pending_calls_threshold = AT_ONCE
    with _our_errors():
        async with client:
            yield MqttLink(client, settings.qos)


def _tls(settings: MqttSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as err:
        raise SettingsError(f"mqtt.ca_file: {settings.ca_file}: can't be read: {err}") from err


@contextlib.contextmanager
def _our_errors():  # type: ignore[no-untyped-def]
    try:
        yield
    except aiomqtt.MqttError as err:
        raise UnavailableError(f"mqtt: {err}; is the broker up, and are mqtt.username and mqtt.password right?") from err
