"""A real MQTT broker in this process, and a client that listens to all of it."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiomqtt
from amqtt.broker import Broker

from core.settings import MqttSettings

WAIT_S = 10.0


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@asynccontextmanager
async def broker(port: int) -> AsyncIterator[MqttSettings]:
    """Run a broker inside the block; yield the settings that lead to it."""
    server = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "timeout_disconnect_delay": 0,
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await server.start()
    try:
        yield MqttSettings(url=f"mqtt://127.0.0.1:{port}")
    finally:
        await server.shutdown()


@dataclass
class Ear:
    """Hears all topics."""

    client: aiomqtt.Client
    heard: list[tuple[str, bytes, bool]] = field(default_factory=list)
    """(topic, payload, retained)."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def listen(self) -> None:
        with contextlib.suppress(aiomqtt.MqttError):
            async for message in self.client.messages:
                assert isinstance(message.payload, bytes)
                self.heard.append((message.topic.value, message.payload, message.retain))
                self._changed.set()

    def all(self, topic: str) -> list[bytes]:
        """Return what was heard on a topic, in order."""
        return [payload for one, payload, _ in self.heard if one == topic]

    async def wait(self, topic: str, payload: bytes | None = None, *, count: int = 1) -> bytes:
        """Wait for a message on a topic (with a payload), so many times, and return the last one's payload."""
        async with asyncio.timeout(WAIT_S):
            while len(found := [one for one in self.all(topic) if payload is None or one == payload]) < count:
                self._changed.clear()
                await self._changed.wait()
        return found[-1]

    async def wait_for(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds of what was heard."""
        async with asyncio.timeout(WAIT_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def wait_json(self, topic: str, *, count: int = 1) -> dict[str, Any]:
        return json.loads(await self.wait(topic, count=count))


@asynccontextmanager
async def ear(settings: MqttSettings) -> AsyncIterator[Ear]:
    """Listen to all topics inside the block."""
    port = int((settings.url or "").rpartition(":")[2])
    async with aiomqtt.Client("127.0.0.1", port) as client:
        one = Ear(client)
        task = asyncio.create_task(one.listen())
        await client.subscribe("#", qos=1)
        yield one
        task.cancel()
        await asyncio.wait({task})


async def retained(settings: MqttSettings, prefix: str = "") -> list[tuple[str, bytes]]:
    """Return what the broker keeps below a prefix: (topic, payload), by topic."""
    port = int((settings.url or "").rpartition(":")[2])
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("#", qos=1)
        await client.publish("end", b"x", qos=1)
        found = []
        async with asyncio.timeout(WAIT_S):
            async for message in client.messages:
                if message.topic.value == "end":
                    return sorted(found)
                if message.retain and message.topic.value.startswith(prefix):
                    found.append((message.topic.value, bytes(message.payload)))  # type: ignore[arg-type]
    return found
