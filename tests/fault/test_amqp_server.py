"""RabbitMQ itself in trouble: killed and started again under load, short of memory; and a consumer that is killed."""

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pydantic import SecretStr

from cli.services.local import LocalServers
from core.adapters.amqp import open_amqp
from core.errors import UnavailableError
from core.metrics import Metrics
from core.ports import Broker, Delivery, QueueSpec, Subscription
from core.settings import BrokerSettings
from core.topology import LIVE_EXCHANGE, PROBES_EXCHANGE, QUEUE_EXPIRES_S, ShardId
from tests.builders.amqp import rabbitmqctl

NONE = BrokerSettings()
SOON_S = 40.0
ROOT = Path(__file__).parents[2]

HOLDER = """
import asyncio, sys
from core.adapters.amqp import open_amqp
from core.ports import QueueSpec
from core.settings import BrokerSettings

async def main(url, queue):
    async with open_amqp(url, BrokerSettings(), name="holder") as broker, broker.subscribe(QueueSpec(name=queue)) as work:
        for _ in range(3):
            print((await work.get()).body.decode(), flush=True)
        await asyncio.sleep(3600)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="module")
def servers(folder: Path) -> Iterator[LocalServers]:
    """A RabbitMQ that these tests may kill."""
    with LocalServers(folder) as servers:
        servers.start("rabbitmq")
        yield servers
    servers.remove()


async def published(broker: Broker, queue: str, body: bytes) -> None:
    """Publish until confirmed."""
    async with asyncio.timeout(SOON_S):
        while True:
            with suppress(UnavailableError):
                return await broker.publish("", queue, body)


async def next_of(subscription: Subscription) -> Delivery:
    async with asyncio.timeout(SOON_S):
        return await subscription.get()


class Traffic:
    """Messages that are published and consumed until it is enough; what was confirmed must arrive."""

    def __init__(self, broker: Broker, work: Subscription) -> None:
        self._broker, self._work = broker, work
        self.confirmed: set[bytes] = set()
        self.arrived: dict[bytes, float] = {}
        self.enough = asyncio.Event()

    async def publish(self, lane: int) -> None:
        number = 0
        while not self.enough.is_set():
            body = b"%d/%d" % (lane, number)
            await published(self._broker, "survives", body)
            self.confirmed.add(body)
            number += 1
            await asyncio.sleep(0.01)

    async def consume(self) -> None:
        while not (self.enough.is_set() and self.confirmed <= self.arrived.keys()):
            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    delivery = await self._work.get()
                    self.arrived[delivery.body] = time.monotonic()
                    self._work.ack(delivery)


async def kill_and_start(servers: LocalServers, traffic: Traffic, answers: Subscription) -> str:
    """Kill RabbitMQ under traffic, start it again, and tell how long it took until all was as before."""
    await asyncio.sleep(1.0)
    first_name, before = answers.name, len(traffic.confirmed)
    assert before > 10
    await asyncio.to_thread(servers.stop, "rabbitmq", kill=True)
    killed_s = time.monotonic()
    await asyncio.sleep(1.0)
    await asyncio.to_thread(servers.start, "rabbitmq")
    started_s = time.monotonic()
    while max(traffic.arrived.values()) < started_s or len(traffic.confirmed) < before + 50 or answers.name == first_name:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    traffic.enough.set()
    return f"away {started_s - killed_s:.1f} s, all as before {time.monotonic() - started_s:.1f} s after it was ready"


@pytest.mark.timeout(180)
async def test_every_confirmed_message_survives_a_killed_server(servers: LocalServers, capsys: pytest.CaptureFixture[str]) -> None:
    quorum = QueueSpec(name="survives", kind="quorum", prefetch=16)
    async with (
        open_amqp(servers.url("rabbitmq"), NONE, name="test", metrics=Metrics()) as broker,
        broker.subscribe(quorum) as work,
        broker.subscribe(QueueSpec(name="", bindings=(("probes", "fanout", ""),))) as answers,
    ):
        traffic = Traffic(broker, work)
        async with asyncio.timeout(120), asyncio.TaskGroup() as group:
            group.create_task(traffic.consume())
            harm = group.create_task(kill_and_start(servers, traffic, answers))
            for lane in range(4):
                group.create_task(traffic.publish(lane))
        await broker.publish("probes", "", b"still bound")
        assert (await next_of(answers)).body == b"still bound"
    assert traffic.confirmed <= traffic.arrived.keys()
    with capsys.disabled():
        sys.stdout.write(f"\nRabbitMQ killed: {len(traffic.confirmed)} messages confirmed, none lost; {harm.result()}\n")


@pytest.mark.timeout(180)
async def test_a_server_short_of_memory_blocks_publishers_but_not_consumers(servers: LocalServers, folder: Path) -> None:
    metrics = Metrics()
    async with (
        open_amqp(servers.url("rabbitmq"), NONE, name="test", metrics=metrics) as broker,
        broker.subscribe(QueueSpec(name="blocked", expires_s=60.0, prefetch=1)) as work,
    ):
        for number in range(4):
            await broker.publish("", "blocked", bytes([number]))
        await asyncio.to_thread(rabbitmqctl, servers, folder, "set_vm_memory_high_watermark", "absolute", "1MB")
        try:
            with suppress(UnavailableError):  # what tells the server that we publish: then it blocks us
                await broker.publish("", "blocked", b"first", expires_s=3.0)
            with pytest.raises(UnavailableError, match="blocks publishers"):
                await broker.publish("", "blocked", b"refused", expires_s=0.5)
            assert metrics.registry.get_sample_value("sightline_broker_blocked") == 1
            for number in range(4):  # with a prefetch of 1 these come only if acknowledgements go through
                delivery = await next_of(work)
                assert delivery.body == bytes([number])
                work.ack(delivery)
        finally:
            await asyncio.to_thread(rabbitmqctl, servers, folder, "set_vm_memory_high_watermark", "absolute", "512MB")
        await published(broker, "blocked", b"after")
        async with asyncio.timeout(SOON_S):
            while True:
                delivery = await work.get()
                work.ack(delivery)
                if delivery.body == b"after":
                    break
        assert metrics.registry.get_sample_value("sightline_broker_blocked") == 0


@pytest.mark.timeout(180)
async def test_the_permissions_of_the_manual_are_enough_and_a_refusal_says_what_to_do(servers: LocalServers, folder: Path) -> None:
    manual = (ROOT / "docs" / "rabbitmq.md").read_text(encoding="utf-8")
    configure, write, read = re.findall(r"^ +'(\^\(.*\)\$)'", manual, re.MULTILINE)

    def make_account() -> None:
        rabbitmqctl(servers, folder, "add_vhost", "sightline")
        rabbitmqctl(servers, folder, "add_user", "sightline", "a:b/c")
        rabbitmqctl(servers, folder, "set_permissions", "-p", "sightline", "sightline", configure, write, read)

    await asyncio.to_thread(make_account)
    url = f"amqp://sightline@127.0.0.1:{servers.port('rabbitmq')}/sightline"
    shard = QueueSpec(name=ShardId(shard=0, shards_total=2).queue, bindings=((PROBES_EXCHANGE, "fanout", ""),), expires_s=QUEUE_EXPIRES_S)
    live = QueueSpec(name="", bindings=((LIVE_EXCHANGE, "topic", "north"),))
    async with (
        open_amqp(url, BrokerSettings(password=SecretStr("a:b/c")), name="test") as broker,
        broker.subscribe(shard) as probes,
        broker.subscribe(live) as holds,
    ):
        await broker.publish(PROBES_EXCHANGE, "", b"who?", reply_to=holds.name)
        question = await next_of(probes)
        await broker.publish("", question.reply_to, b"ada")
        await broker.publish(LIVE_EXCHANGE, "north", b"gate")
        assert [(await next_of(holds)).body for _ in range(2)] == [b"ada", b"gate"]
        assert await broker.depth(shard.name) == 0
        with pytest.raises(UnavailableError, match=r"queue 'other': .*access to queue 'other'.* refused.*grant") as refused:
            async with broker.subscribe(QueueSpec(name="other")):
                pass
        assert "a:b/c" not in str(refused.value)


@pytest.mark.timeout(180)
async def test_what_a_killed_consumer_held_goes_to_another(servers: LocalServers) -> None:
    url = servers.url("rabbitmq")
    async with open_amqp(url, NONE, name="test") as broker:
        async with broker.subscribe(QueueSpec(name="held")):
            pass
        for body in (b"a", b"b", b"c"):
            await broker.publish("", "held", body)
        holder = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HOLDER, url, "held", stdout=asyncio.subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        assert holder.stdout is not None
        async with asyncio.timeout(SOON_S):
            assert [(await holder.stdout.readline()).strip() for _ in range(3)] == [b"a", b"b", b"c"]
        holder.send_signal(signal.SIGKILL)
        await holder.wait()
        async with broker.subscribe(QueueSpec(name="held")) as work:
            taken = [await next_of(work) for _ in range(3)]
            for delivery in taken:
                work.ack(delivery)
    assert [(delivery.body, delivery.redelivered) for delivery in taken] == [(b"a", True), (b"b", True), (b"c", True)]
