"""Live tracks of a recognizer hold gates open in an ingester, over both brokers."""

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from core.adapters.amqp import open_amqp
from core.adapters.memory_broker import MemoryBroker
from core.live import LiveTracks, follow_holds, publish_holds
from core.ports import Broker
from core.schema import LiveHolds, encode
from core.settings import BrokerSettings
from core.topology import LIVE_EXCHANGE


@pytest.fixture(params=["memory", "rabbitmq"])
async def broker(request: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    if request.param == "memory":
        yield MemoryBroker()
    else:
        async with open_amqp(request.getfixturevalue("amqp_url"), BrokerSettings(), name="test") as opened:
            yield opened


@asynccontextmanager
async def running(*services) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(service) for service in services]
    try:
        yield
    finally:
        for task in tasks:
            assert not task.done()
            task.cancel()
        await asyncio.wait(tasks)


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not what():  # noqa: ASYNC110 - the broker's side
            await asyncio.sleep(0.02)


async def test_a_hold_reaches_the_ingesters_of_its_region_and_of_all(broker: Broker) -> None:
    region = uuid.uuid4().hex
    recognizer, here, everywhere, elsewhere = LiveTracks(), LiveTracks(), LiveTracks(), LiveTracks()
    async with running(
        follow_holds(here, broker, [region]),
        follow_holds(everywhere, broker),
        follow_holds(elsewhere, broker, ["other" + region]),
        publish_holds(recognizer, broker),
    ):
        later = itertools.count(1)

        def heard() -> bool:  # what is told before a subscription is there is told to nobody: a live track tells again and again
            recognizer.hold("door", 1002.0 + next(later) * 1e-4, region=region)
            return here.held("door", 1002.0) and everywhere.held("door", 1002.0)

        await until(heard)
    assert not here.held("door", 1002.5)
    assert not elsewhere.held("door", 1000.0)
    assert recognizer.held("door", 1002.0)


async def test_a_message_that_can_not_be_read_is_passed_over(broker: Broker) -> None:
    region, live = uuid.uuid4().hex, LiveTracks()
    async with running(follow_holds(live, broker, [region])):
        async with asyncio.timeout(10):
            while not live.held("door", 8.0):
                await broker.publish(LIVE_EXCHANGE, region, b"poison")
                await broker.publish(LIVE_EXCHANGE, region, encode(LiveHolds(region=region, until_s={"door": 9.0})))
                await asyncio.sleep(0.02)


async def test_only_changes_are_told_and_followed_ones_are_not_told_on() -> None:
    live = LiveTracks()
    live.hold("a", 1.0, region="west")
    live.hold("b", 1.0, region="east")
    assert live.changes() == [LiveHolds(region="west", until_s={"a": 1.0}), LiveHolds(region="east", until_s={"b": 1.0})]
    live.hold("a", 1.0, region="west")
    live.follow(LiveHolds(region="west", until_s={"c": 2.0}))
    assert live.changes() == []
    live.hold("a", 2.0, region="west")
    assert live.changes() == [LiveHolds(region="west", until_s={"a": 2.0})]
