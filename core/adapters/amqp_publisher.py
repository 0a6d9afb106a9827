"""Publishing with confirms: a bounded number in flight, each resolved by its delivery tag, none waiting for ever."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

import pika.spec
import structlog
from pika import BasicProperties

from core.adapters.amqp_channel import AmqpChannel, ChannelClosedError
from core.adapters.amqp_connection import AmqpConnection
from core.errors import UnavailableError
from core.metrics import Metrics

IN_FLIGHT: Final = 1024  # confirms awaited at a time; more publishers wait
WAIT_S: Final = 5.0  # for a connection, for room, or for a server that blocks publishers
CONFIRM_TIMEOUT_S: Final = 10.0
SWEEP_S: Final = 1.0  # how often late confirms are looked for: one timer, not one a message
MISSING_S: Final = 0.5  # an exchange that is not there is looked for again after this
_NOT_FOUND: Final = 404
_TRANSIENT: Final = 1  # delivery mode; quorum queues store every message whatever it says
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is to be published."""

    exchange: str
    routing_key: str
    body: bytes
    reply_to: str
    correlation_id: str
    expires_at_s: float | None
    """On the event loop's clock; waiting before the message is sent counts."""

    def properties(self, now_s: float) -> BasicProperties:
        """Return the AMQP properties."""
        left_ms = None if self.expires_at_s is None else str(max(1, int(1000 * (self.expires_at_s - now_s))))
        return BasicProperties(
            delivery_mode=_TRANSIENT,
            expiration=left_ms,
            reply_to=self.reply_to or None,
            correlation_id=self.correlation_id or None,
        )


class _Confirms:
    """A channel in confirm mode. Tags count from 1 in the order of publishing."""

    def __init__(self, channel: AmqpChannel, count_failure: Callable[[str], None]) -> None:
        self.channel = channel
        self._count_failure = count_failure
        self._tag = 0
        self._pending: OrderedDict[int, tuple[asyncio.Future[None], float]] = OrderedDict()

    @classmethod
    async def open(cls, connection: AmqpConnection, count_failure: Callable[[str], None]) -> "_Confirms":
        self = cls(await AmqpChannel.open(connection), count_failure)
        await self.channel.call(self.channel.raw.confirm_delivery, self._on_answer)
        return self

    def publish(self, message: Message, now_s: float) -> asyncio.Future[None]:
        """Send a message; the future is done once the server has it."""
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        _send(self.channel, message, now_s)
        self._tag += 1
        self._pending[self._tag] = (confirmed, now_s)
        return confirmed

    def fail_late(self, now_s: float) -> None:
        """Fail what waits too long."""
        while self._pending and next(iter(self._pending.values()))[1] < now_s - CONFIRM_TIMEOUT_S:
            _, (confirmed, _) = self._pending.popitem(last=False)
            self._fail(confirmed, "timeout", f"RabbitMQ did not confirm a message within {CONFIRM_TIMEOUT_S:.0f} s")

    def fail_all(self, reason: str) -> None:
        """Fail all that waits."""
        for confirmed, _ in self._pending.values():
            self._fail(confirmed, "lost", f"not confirmed: {reason}")
        self._pending.clear()

    def _on_answer(self, frame: Any) -> None:
        """Resolve one future, or all up to a tag."""
        method = frame.method
        refused = isinstance(method, pika.spec.Basic.Nack)
        if not method.multiple:
            waiting = self._pending.pop(method.delivery_tag, None)
            if waiting is not None:
                self._settle(waiting[0], refused)
            return
        while self._pending and next(iter(self._pending)) <= method.delivery_tag:
            self._settle(self._pending.popitem(last=False)[1][0], refused)

    def _settle(self, confirmed: asyncio.Future[None], refused: bool) -> None:
        if refused:
            self._fail(confirmed, "refused", "RabbitMQ refused a message: a queue is full, or lost its leader")
        elif not confirmed.done():
            confirmed.set_result(None)

    def _fail(self, confirmed: asyncio.Future[None], cause: str, text: str) -> None:
        if not confirmed.done():  # else nobody waits any more
            confirmed.set_exception(UnavailableError(text))
            self._count_failure(cause)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lanes:
    """What messages are published on while one connection lasts."""

    connection: AmqpConnection
    confirms: _Confirms
    plain: AmqpChannel

    @property
    def are_open(self) -> bool:
        return not (self.connection.is_lost or self.confirms.channel.closed.done() or self.plain.closed.done())


class Publisher:
    """Publishes over the connections that a link brings. Thread rule: one event loop."""

    def __init__(self, server: str, metrics: Metrics) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._lanes: _Lanes | None = None
        self._up = asyncio.Event()
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._looking = asyncio.Lock()
        self._exchanges: dict[str, float] = {}
        """Exchange -> until when it is known to be absent, on the loop's clock; 0 = known to be there."""
        self._published = metrics.broker_messages.labels(direction="published")
        self._failures = metrics.broker_publish_failures

    def exchange_declared(self, exchange: str) -> None:
        """Learn that an exchange is there."""
        self._exchanges[exchange] = 0.0

    async def serve(self, connection: AmqpConnection) -> None:
        """Keep channels open on a connection until it is lost."""
        while not connection.is_lost:
            try:
                plain = await AmqpChannel.open(connection)
                self._lanes = _Lanes(connection=connection, confirms=await _Confirms.open(connection, self._count_failure), plain=plain)
            except UnavailableError as err:
                connection.abort(f"no channel to publish on: {err}")
                return
            self._up.set()
            try:
                await self._watch(self._lanes)
            finally:
                self._up.clear()
                self._lanes = None

    async def publish(self, message: Message, *, confirm: bool) -> None:
        """Publish; with ``confirm`` return once the server has it.

        Raises:
            UnavailableError: no connection, not confirmed in time, or the server blocks publishers.
        """
        until_s = self._loop.time() + WAIT_S
        if message.expires_at_s is not None:
            until_s = min(until_s, message.expires_at_s)
        if not confirm:
            lanes = await self._lanes_to(message.exchange, until_s)
            if lanes is not None:
                _send(lanes.plain, message, self._loop.time())
                self._published.inc()
            return
        async with self._slot(until_s):
            lanes = await self._lanes_to(message.exchange, until_s)
            if lanes is not None:
                await lanes.confirms.publish(message, self._loop.time())
                self._published.inc()

    async def _watch(self, lanes: _Lanes) -> None:
        """Return when a lane is closed; until then fail what waits too long, and then all that still waits."""
        ends: list[asyncio.Future[Any]] = [lanes.connection.lost, lanes.confirms.channel.closed, lanes.plain.closed]
        while lanes.are_open:
            await asyncio.wait(ends, timeout=SWEEP_S, return_when=asyncio.FIRST_COMPLETED)
            lanes.confirms.fail_late(self._loop.time())
        self._exchanges.clear()  # one of them may be what closed a channel
        closed = [lane.closed.result() for lane in (lanes.confirms.channel, lanes.plain) if lane.closed.done()]
        reason = str(closed[0]) if closed else lanes.connection.lost.result()
        lanes.confirms.fail_all(reason)
        if not lanes.connection.is_lost:
            _log.warning("broker closed a channel to publish on", server=self._server, reason=reason)
            for lane in (lanes.confirms.channel, lanes.plain):
                await lane.close()

    @contextlib.asynccontextmanager
    async def _slot(self, until_s: float) -> AsyncIterator[None]:
        """Hold one of the places for messages in flight."""
        try:
            if self._room.locked():
                async with asyncio.timeout_at(until_s):
                    await self._room.acquire()
            else:
                await self._room.acquire()
        except TimeoutError as err:
            raise self._refusal("full", f"RabbitMQ at {self._server} lags: {IN_FLIGHT} messages wait for its confirmation") from err
        try:
            yield
        finally:
            self._room.release()

    async def _lanes_to(self, exchange: str, until_s: float) -> _Lanes | None:
        """Return open lanes once nothing hinders publishers; None when there is no such exchange, so that no queue could be reached."""
        while True:
            lanes = self._lanes
            if lanes is None or not lanes.are_open:
                self._up.clear()
                if lanes is not None:
                    self._lanes = None
                await self._until(self._up, until_s, "unreachable", "no connection")
            elif not lanes.connection.may_publish.is_set():
                await self._until(lanes.connection.may_publish, until_s, "blocked", lanes.connection.hindrance)
            elif not exchange or self._exchanges.get(exchange) == 0.0:
                return lanes
            elif not await self._look_for(exchange, lanes.connection):
                return None

    async def _until(self, event: asyncio.Event, until_s: float, cause: str, what: str) -> None:
        try:
            async with asyncio.timeout_at(until_s):
                await event.wait()
        except TimeoutError as err:
            raise self._refusal(cause, f"RabbitMQ at {self._server}: {what}") from err

    def _refusal(self, cause: str, text: str) -> UnavailableError:
        self._count_failure(cause)
        return UnavailableError(text)

    def _count_failure(self, cause: str) -> None:
        self._failures.labels(cause=cause).inc()

    async def _look_for(self, exchange: str, connection: AmqpConnection) -> bool:
        """Ask the server for an exchange. Publishing to an absent one would close the channel under all that is in flight on it."""
        async with self._looking:
            known = self._exchanges.get(exchange)
            if known is not None and (known == 0.0 or self._loop.time() < known):
                return known == 0.0
            channel = await AmqpChannel.open(connection)
            try:
                await channel.call(channel.raw.exchange_declare, exchange, passive=True)
                self._exchanges[exchange] = 0.0
            except ChannelClosedError as err:
                if err.reply_code != _NOT_FOUND:
                    raise
                self._exchanges[exchange] = self._loop.time() + MISSING_S
            finally:
                await channel.close()
            return self._exchanges[exchange] == 0.0


def _send(channel: AmqpChannel, message: Message, now_s: float) -> None:
    channel.publish(message.exchange, message.routing_key, message.properties(now_s), message.body)
