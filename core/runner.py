"""Run the parts of a process together: all live or all stop; SIGINT and SIGTERM drain them in order."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

DRAIN_S = 5.0  # how long one part may take to stop, and how long its output may take to be consumed


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One part of a process."""

    name: str
    run: Callable[[], Awaitable[None]]
    """Works until cancelled, then tidies up. A service that returns is done; the others go on."""
    drained: Callable[[], Awaitable[None]] | None = None
    """Waits, after the service was stopped, until the next one has taken over all that it produced."""


class _Stopped(Exception):
    """Ends the task group once everything has drained."""


async def run_services(services: Sequence[Service], stop: asyncio.Event) -> None:
    """Run services until ``stop`` is set, SIGINT or SIGTERM comes, or one of them fails.

    On stop they are cancelled one after the other, in the given order (producers first), and each one's output is given
    time to drain, so that nothing accepted is left behind.

    Raises:
        Exception: what the failed service raised; a dead part ends the process.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_run(service), name=service.name) for service in services]
            await stop.wait()
            for service, task in zip(services, tasks, strict=True):
                await _drain(service, task)
            raise _Stopped
    except* _Stopped:
        pass
    except* Exception as failed:
        raise first_error(failed) from failed
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _run(service: Service) -> None:
    await service.run()


async def _drain(service: Service, task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task}, timeout=DRAIN_S)
    if service.drained is not None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(service.drained(), DRAIN_S)


def first_error(group: BaseException) -> BaseException:
    """Return the first error of a tree of groups: what people are told."""
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
