"""The hub of live events: bounded towards the past and towards every client."""

import asyncio

import pytest

from api.errors import BusyError
from api.live import hub
from api.live.hub import CLIENT_EVENTS, MAX_CLIENTS, PAST_EVENTS, EventHub
from api.system.models import Alive


def publish(hub: EventHub, count: int) -> None:
    for _ in range(count):
        hub.publish("tick", Alive())


async def drain(subscription: hub.Subscription) -> list[int]:
    got = []
    while (event := await subscription.next(0)) is not None:
        got.append(event.number)
    return got


async def test_a_client_gets_what_is_published_after_it_came() -> None:
    hub = EventHub()
    publish(hub, 2)
    with hub.subscribe(None) as (subscription, gap):
        publish(hub, 2)
        assert (await drain(subscription), gap) == ([3, 4], False)


async def test_a_client_resumes_behind_the_event_it_had() -> None:
    hub = EventHub()
    with hub.subscribe(None) as (subscription, _):
        publish(hub, 3)
        first = await subscription.next(0)
        assert first is not None
        seen = subscription.id_of(first)
    publish(hub, 1)
    with hub.subscribe(seen) as (subscription, gap):
        assert (await drain(subscription), gap) == ([2, 3, 4], False)


async def test_a_client_that_missed_more_than_is_kept_is_told_so() -> None:
    hub = EventHub()
    with hub.subscribe(None) as (subscription, _):
        publish(hub, 1)
        first = await subscription.next(0)
        assert first is not None
        seen = subscription.id_of(first)
    publish(hub, PAST_EVENTS)
    with hub.subscribe(seen) as (_, gap):
        assert gap is False  # the very next event is still the oldest kept
    publish(hub, 1)
    with hub.subscribe(seen) as (_, gap):
        assert gap is True


@pytest.mark.parametrize("last_id", ["", "x", "x-1", "-", "0-" + "9" * 50, "\x00"])
async def test_an_id_of_another_server_is_a_gap(last_id: str) -> None:
    with EventHub().subscribe(last_id) as (subscription, gap):
        assert (await drain(subscription), gap) == ([], True)


async def test_a_client_that_falls_behind_is_let_go_and_holds_nothing() -> None:
    hub = EventHub()
    with hub.subscribe(None) as (slow, _), hub.subscribe(None) as (quick, _):
        for _ in range(CLIENT_EVENTS + 1):
            publish(hub, 1)
            await quick.next(0)
        assert (slow.behind, slow.ended, await slow.next(0)) == (True, True, None)
        assert quick.behind is False


async def test_waiting_ends_with_the_next_event_or_the_server() -> None:
    hub = EventHub()
    with hub.subscribe(None) as (subscription, _):
        waiting = asyncio.create_task(subscription.next(60))
        await asyncio.sleep(0)
        publish(hub, 1)
        event = await waiting
        assert event is not None
        assert event.number == 1
        waiting = asyncio.create_task(subscription.next(60))
        await asyncio.sleep(0)
        hub.close()
        assert await waiting is None
        assert (subscription.ended, subscription.behind) == (True, False)


async def test_only_so_many_clients() -> None:
    hub = EventHub()
    opened = [hub.subscribe(None) for _ in range(MAX_CLIENTS)]
    for one in opened:
        one.__enter__()
    with pytest.raises(BusyError, match="no more are taken"), hub.subscribe(None):
        pass
    opened[0].__exit__(None, None, None)
    with hub.subscribe(None):
        pass
