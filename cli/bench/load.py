"""A load generator: requests in closed loops (so many clients, each waits for its answer) or in an open loop (so many a second).

In an open loop a request's time counts from when it was due, not from when it was sent: a server that stalls is charged for all who wait
(Tene, "How NOT to measure latency", on coordinated omission).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np

Send = Callable[[int], Awaitable[None]]
"""Sends request number n and waits for its answer; raises where it is not as expected."""
MOST_OPEN = 256  # requests on their way in an open loop; more have to wait, and are charged for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What requests took."""

    seconds: float
    latencies_ms: list[float] = field(repr=False)

    @property
    def per_second(self) -> float:
        """Return answers a second."""
        return len(self.latencies_ms) / self.seconds

    def percentile(self, percent: float) -> float:
        """Return a latency percentile, ms."""
        return float(np.percentile(self.latencies_ms, percent))


async def closed_loop(send: Send, *, clients: int, seconds: float) -> Load:
    """Let so many clients send one request after the other for so long."""
    latencies: list[float] = []
    began_s = time.perf_counter()
    numbers = iter(range(1 << 62))

    async def client() -> None:
        while time.perf_counter() - began_s < seconds:
            sent_s = time.perf_counter()
            await send(next(numbers))
            latencies.append((time.perf_counter() - sent_s) * 1e3)

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return Load(seconds=time.perf_counter() - began_s, latencies_ms=latencies)


async def open_loop(send: Send, *, per_second: float, seconds: float) -> Load:
    """Send so many requests a second for so long, whether or not the ones before were answered."""
    latencies: list[float] = []
    places = asyncio.Semaphore(MOST_OPEN)
    began_s = time.perf_counter()

    async def one(number: int, due_s: float) -> None:
        async with places:
            await send(number)
        latencies.append((time.perf_counter() - due_s) * 1e3)

    async with asyncio.TaskGroup() as group:
        for number in range(int(per_second * seconds)):
            due_s = began_s + number / per_second
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            group.create_task(one(number, due_s))
    return Load(seconds=time.perf_counter() - began_s, latencies_ms=latencies)
