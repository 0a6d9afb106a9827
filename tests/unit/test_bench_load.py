"""The load generator: who waits is charged from when the request was due."""

import asyncio

from cli.bench.load import closed_loop, open_loop


async def test_a_closed_loop_never_has_more_on_their_way_than_clients() -> None:
    inside = most = 0

    async def send(_number: int) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.001)
        inside -= 1

    load = await closed_loop(send, clients=3, seconds=0.1)
    assert most == 3
    assert load.per_second > 0
    assert load.percentile(50) >= 1.0


async def test_an_open_loop_charges_a_stall_to_all_who_were_due_meanwhile() -> None:
    stall_s = 0.1
    turn = asyncio.Lock()

    async def send(number: int) -> None:
        async with turn:
            await asyncio.sleep(stall_s if number == 0 else 0)

    load = await open_loop(send, per_second=200.0, seconds=0.2)
    assert len(load.latencies_ms) == 40
    waited = [ms for ms in load.latencies_ms if ms > 40]
    assert len(waited) >= 10  # due in the first half of the stall, sent at once, answered after it
