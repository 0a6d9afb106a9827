"""All parts of a process live together; on stop they drain in order."""

import asyncio

import pytest

from core.errors import UnavailableError
from core.runner import Service, run_services


async def test_services_stop_in_order_and_each_may_drain() -> None:
    order: list[str] = []
    stop = asyncio.Event()

    def part(name: str) -> Service:
        async def run() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                order.append(f"{name} stopped")

        async def drained() -> None:
            order.append(f"{name} drained")

        return Service(name=name, run=run, drained=drained)

    asyncio.get_running_loop().call_soon(stop.set)
    await run_services([part("ingest"), part("recognize")], stop)

    assert order == ["ingest stopped", "ingest drained", "recognize stopped", "recognize drained"]


async def test_a_dead_service_ends_the_others_and_its_error_comes_out() -> None:
    ended = asyncio.Event()

    async def dies() -> None:
        raise UnavailableError("camera gate: connection refused")

    async def lives() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(UnavailableError, match=r"^camera gate: connection refused$"):
        await run_services([Service(name="lives", run=lives), Service(name="dies", run=dies)], asyncio.Event())
    assert ended.is_set()


async def test_a_service_that_returns_leaves_the_others_running() -> None:
    stop = asyncio.Event()

    async def returns() -> None:
        return

    async def stops() -> None:
        await asyncio.sleep(0)
        stop.set()
        await asyncio.Event().wait()

    await run_services([Service(name="returns", run=returns), Service(name="stops", run=stops)], stop)
