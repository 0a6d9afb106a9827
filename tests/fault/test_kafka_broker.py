"""The broker in trouble: stopped, killed, frozen, behind a bad network. Nothing acknowledged is lost, and all come back by themselves."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from cli.services.local import LocalServers
from core.adapters.kafka_log import KafkaLog, open_kafka_log
from core.errors import UnavailableError
from core.ports import Consumer, Record
from core.settings import KafkaSettings
from tests.builders.kafka import collect, open_test_kafka
from tests.builders.proxy import TcpProxy

OUTAGE_S = 20.0
SOON_S = 60.0
KEYS = [f"camera-{number}" for number in range(6)]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServers]:
    """A Kafka that these tests may stop."""
    with LocalServers(tmp_path_factory.mktemp("servers")) as servers:
        servers.start("kafka")
        yield servers
    servers.remove()


class Traffic:
    """Publishes numbers for some keys, each again until it is acknowledged, and consumes them in another task."""

    def __init__(self, log: KafkaLog, topic: str, group: str) -> None:
        self._log, self._topic, self._group = log, topic, group
        self.acknowledged: list[tuple[str, int]] = []
        self.refused_after_s: list[float] = []
        self.seen: list[Record] = []
        self.last_seen_s = 0.0
        self._stop, self._published_all = asyncio.Event(), asyncio.Event()

    async def publish(self) -> None:
        number = 0
        while not self._stop.is_set():
            for key in KEYS:
                while not await self._published(key, number):
                    pass
                self.acknowledged.append((key, number))
            number += 1
            await asyncio.sleep(0.05)
        self._published_all.set()

    async def _published(self, key: str, number: int) -> bool:
        began_s = time.monotonic()
        try:
            await self._log.publish(self._topic, key, b"%06d" % number)
        except UnavailableError:
            self.refused_after_s.append(time.monotonic() - began_s)
            return False
        return True

    async def consume(self) -> None:
        async with self._log.consumer([self._topic], self._group) as consumer:
            while not self._published_all.is_set():
                await self._take(consumer)
            while {(r.key, int(r.value)) for r in self.seen} < set(self.acknowledged):
                await self._take(consumer)

    async def _take(self, consumer: Consumer) -> None:
        records = await consumer.poll(16, 0.2)
        self.seen += records
        if records:
            self.last_seen_s = time.monotonic()
        await consumer.commit(records)

    def end(self) -> None:
        self._stop.set()

    async def flows(self, since_s: float) -> float:
        """Return how long after a moment records came again."""
        before = len(self.acknowledged)
        async with asyncio.timeout(SOON_S):
            while self.last_seen_s < since_s or len(self.acknowledged) < before + 2 * len(KEYS):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return self.last_seen_s - since_s


async def through(url: str, trouble: Callable[[], object], relief: Callable[[], object], *, hold_s: float) -> Traffic:
    """Run traffic through a trouble and its end; return it with everything that was acknowledged also seen."""
    async with open_test_kafka(url) as kafka:
        topic = kafka.name("t")
        await kafka.make(topic, partitions=4)
        traffic = Traffic(kafka.log, topic, kafka.name("g"))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(traffic.publish())
            tasks.create_task(traffic.consume())
            await traffic.flows(time.monotonic())
            await asyncio.to_thread(trouble)
            await asyncio.sleep(hold_s)
            await asyncio.to_thread(relief)
            took_s = await traffic.flows(time.monotonic())
            await asyncio.sleep(1)
            traffic.end()
        (state,) = await asyncio.to_thread(kafka.admin.states, [topic], [kafka.name("g")])
        print(f"records flowed again after {took_s:.1f} s; {len(traffic.refused_after_s)} publications refused")  # noqa: T201
        assert state.lag == {kafka.name("g"): 0}
    seen = {(r.key, int(r.value)) for r in traffic.seen}
    assert set(traffic.acknowledged) <= seen
    for key in KEYS:
        numbers = list(dict.fromkeys(int(r.value) for r in traffic.seen if r.key == key))
        assert numbers == sorted(numbers)  # a copy may come late, a first never after a later one
    return traffic


@pytest.mark.full
@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
async def test_twenty_seconds_without_kafka(servers: LocalServers, kill: bool) -> None:
    url = servers.url("kafka")
    traffic = await through(url, lambda: servers.stop("kafka", kill=kill), lambda: servers.start("kafka"), hold_s=OUTAGE_S)
    assert traffic.refused_after_s
    assert max(traffic.refused_after_s) < 7  # a spool takes over


@pytest.mark.full
async def test_a_frozen_broker(servers: LocalServers) -> None:
    """Connections stand, nobody answers: the worst kind of absence."""
    pids = servers.pids("kafka")

    def tell(number: int) -> None:
        for pid in pids:
            os.kill(pid, number)

    try:
        traffic = await through(servers.url("kafka"), lambda: tell(signal.SIGSTOP), lambda: tell(signal.SIGCONT), hold_s=OUTAGE_S)
    finally:
        tell(signal.SIGCONT)
    assert traffic.refused_after_s
    assert max(traffic.refused_after_s) < 8


@pytest.fixture
def proxy(servers: LocalServers) -> Iterator[TcpProxy]:
    with TcpProxy("127.0.0.1", servers.port("kafka", "proxied_port"), port=servers.port("kafka", "proxy_port")) as proxy:
        yield proxy


async def test_every_connection_is_cut(proxy: TcpProxy) -> None:
    traffic = await through(f"kafka://127.0.0.1:{proxy.port}", proxy.cut, proxy.cut, hold_s=1)
    assert not traffic.refused_after_s  # the producer tries again by itself, without a copy


async def test_connections_are_refused_for_a_while(proxy: TcpProxy) -> None:
    await through(f"kafka://127.0.0.1:{proxy.port}", proxy.refuse, proxy.heal, hold_s=10)


async def test_connections_end_half(proxy: TcpProxy) -> None:
    await through(f"kafka://127.0.0.1:{proxy.port}", proxy.half_close, proxy.heal, hold_s=5)


async def test_a_slow_network(proxy: TcpProxy) -> None:
    traffic = await through(f"kafka://127.0.0.1:{proxy.port}", lambda: proxy.delay(0.5), proxy.heal, hold_s=10)
    assert not traffic.refused_after_s


async def test_a_process_starts_and_ends_without_kafka(servers: LocalServers) -> None:
    """Ingest must be able to start and spool; nothing hangs at the end."""
    async with open_kafka_log("kafka://127.0.0.1:1", KafkaSettings()) as log:
        began_s = time.monotonic()
        with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1"):
            await log.publish("frames.x", "k", b"v")
        assert time.monotonic() - began_s < 10
        assert "127.0.0.1:1" in await log.check()
        async with log.consumer(["frames.*"], "g") as consumer:
            assert await consumer.poll(5, 1.0) == []
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 10


async def test_topics_that_come_late_are_waited_for(servers: LocalServers) -> None:
    async with open_test_kafka(servers.url("kafka")) as kafka:
        topic = kafka.name("t")
        with pytest.raises(UnavailableError, match=f"Kafka has no topic {topic}; 'sightline topics ensure'"):
            await kafka.log.publish(topic, "k", b"v")
        assert topic in await kafka.log.check(topic)
        async with kafka.log.consumer([topic], kafka.name("g")) as consumer:
            assert await consumer.poll(1, 1.0) == []
            await kafka.make(topic)
            made_s = time.monotonic()
            async with asyncio.timeout(SOON_S):
                while True:
                    with suppress(UnavailableError):
                        await kafka.log.publish(topic, "k", b"v")
                        break
                    await asyncio.sleep(0.2)
            assert time.monotonic() - made_s < 10
            await collect(consumer, 1, timeout_s=15)
            assert time.monotonic() - made_s < 20
            assert await kafka.log.check(topic) == ""
