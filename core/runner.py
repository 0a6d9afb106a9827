"""Run the parts of a process together: all live or all stop; SIGINT and SIGTERM drain."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping


class _Drain(Exception):
    """Raised inside the task group to end it."""


async def run_until_stopped(services: Mapping[str, Callable[[], Awaitable[None]]], stop: asyncio.Event) -> None:
    """Run services until one fails (its error is raised), or ``stop`` is set, or SIGINT or SIGTERM comes.

    A service that returns by itself is done; the others go on. On stop the services are cancelled and awaited, so each
    closes what it opened.

    Raises:
        SightlineError or whatever the failed service raised: a dead part ends the process.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    async def end_when_stopped() -> None:
        await stop.wait()
        raise _Drain

    try:
        async with asyncio.TaskGroup() as group:
            for name, service in services.items():
                group.create_task(_named(service), name=name)
            group.create_task(end_when_stopped(), name="stop")
    except* _Drain:
        pass
    except* Exception as failed:
        raise _first_leaf(failed) from failed
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _named(service: Callable[[], Awaitable[None]]) -> None:
    await service()


def _first_leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    leaf: BaseException = group
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return leaf
