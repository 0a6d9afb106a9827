"""Consumers that go on over reconnections: each with a channel of its own, declared again with its queue, exchanges and bindings."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import Any, Final

import structlog

from core.adapters.amqp_channel import AmqpChannel, ChannelClosedError, pika_errors
from core.adapters.amqp_connection import AmqpConnection
from core.adapters.amqp_link import pause_s
from core.adapters.amqp_queue import declare_queue
from core.errors import UnavailableError
from core.metrics import Metrics
from core.ports import Delivery, QueueSpec

START_WAIT_S: Final = 5.0  # for a connection, when a subscription or a question comes during a reconnection
_NOT_FOUND: Final = 404
_log = structlog.get_logger(__name__)


class AmqpSubscription:
    """A consumer of one queue. Thread rule: one event loop."""

    def __init__(self, spec: QueueSpec, *, numbers: "count[int]", on_lost: Callable[[], None], metrics: Metrics) -> None:
        self.spec = spec
        self._name = spec.name
        self._numbers = numbers
        self._number = 0
        self._on_lost = on_lost
        self._channel: AmqpChannel | None = None
        self._moving = asyncio.Lock()
        self._left = False
        self._failure = ""
        self._arrived: asyncio.Queue[Delivery | None] = asyncio.Queue()  # bounded by the prefetch; None wakes who waits, after a failure
        self._open: dict[int, bool] = {}
        """Delivery tag, in order -> whether it was acknowledged here and the server does not know yet."""
        self._late_acks: list[int] = []
        self._delivered = metrics.broker_messages.labels(direction="delivered")
        self._redelivered = metrics.broker_messages.labels(direction="redelivered")

    @property
    def name(self) -> str:
        """The queue's name; of an unnamed queue it changes with each reconnection."""
        return self._name

    @property
    def is_consuming(self) -> bool:
        """Whether the server knows this consumer, as far as can be told."""
        return self._channel is not None or bool(self._failure)

    async def get(self) -> Delivery:
        """Return the next message, waiting for one, over reconnections too.

        Raises:
            UnavailableError: after a reconnection the server refuses the queue for good (arguments, permissions).
        """
        if not self._failure:
            delivery = await self._arrived.get()
            if delivery is not None:
                return delivery
            self._arrived.put_nowait(None)  # for the next one who waits
        raise UnavailableError(self._failure)

    def ack(self, delivery: Delivery) -> None:
        """Say that a message is done. Nothing happens if its connection is lost, or if it was settled before.

        What is acknowledged in one turn of the event loop is sent as one frame where the tags allow it.
        """
        number, tag = delivery.tag
        if number != self._number or self._open.get(tag) is not False:
            return
        self._open[tag] = True
        if not self._late_acks:
            asyncio.get_running_loop().call_soon(self._send_acks, number)
        self._late_acks.append(tag)

    def reject(self, delivery: Delivery, *, requeue: bool) -> None:
        """Give a message back, or away for good. Nothing happens if its connection is lost, or if it was settled before."""
        number, tag = delivery.tag
        if number != self._number or self._open.get(tag) is not False or self._channel is None:
            return
        del self._open[tag]
        if self._channel.raw.is_open:
            self._channel.raw.basic_reject(tag, requeue=requeue)

    async def start(self, connection: AmqpConnection) -> None:
        """Declare the queue with all that belongs to it, and consume.

        Raises:
            ChannelClosedError: the server refuses. UnavailableError: no connection, or no answer.
        """
        async with self._moving:
            if self._left:
                return
            channel = await AmqpChannel.open(connection)
            is_started = False
            try:
                self._name = await declare_queue(channel, self.spec)
                await channel.call(channel.raw.basic_qos, prefetch_count=self.spec.prefetch)
                number = self._number = next(self._numbers)
                self._channel = channel  # before the first delivery, which may come with the answer
                channel.closed.add_done_callback(lambda _: self._on_closed(number))
                channel.raw.add_on_cancel_callback(lambda _: self._on_cancelled(channel))
                consume = partial(channel.raw.basic_consume, self._name, partial(self._on_message, number))
                await channel.call(consume)
                is_started = True
            finally:
                if not is_started:
                    await channel.close()

    async def leave(self) -> None:
        """Stop consuming; what was delivered and not settled comes again to somebody."""
        self._left = True
        async with self._moving:
            if self._channel is not None:
                self._send_acks(self._number)
                await self._channel.close()

    def fail(self, reason: str) -> None:
        """Give up: who waits, and who comes, is told why."""
        self._failure = reason
        self._arrived.put_nowait(None)

    def _on_message(self, number: int, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if number != self._number:
            return
        self._open[method.delivery_tag] = False
        (self._redelivered if method.redelivered else self._delivered).inc()
        self._arrived.put_nowait(
            Delivery(
                body=body,
                routing_key=method.routing_key,
                reply_to=properties.reply_to or "",
                correlation_id=properties.correlation_id or "",
                redelivered=method.redelivered,
                tag=(number, method.delivery_tag),
            )
        )

    def _on_cancelled(self, channel: AmqpChannel) -> None:
        """The queue was deleted, or lost its server: begin anew."""
        _log.warning("broker ended a consumer", queue=self._name)
        if channel.raw.is_open:
            channel.raw.close()

    def _on_closed(self, number: int) -> None:
        """Forget what was delivered on a channel that is gone: it comes again."""
        if number != self._number:
            return
        self._number = 0
        self._channel = None
        self._open.clear()
        self._late_acks.clear()
        while not self._arrived.empty():
            self._arrived.get_nowait()
        self._on_lost()

    def _send_acks(self, number: int) -> None:
        """Acknowledge all up to the last tag before which nothing is open, then the others one by one."""
        if number != self._number or self._channel is None or not self._channel.raw.is_open or not self._late_acks:
            return
        settled = 0
        done = []
        for tag, acked in self._open.items():
            if not acked:
                break
            settled = tag
            done.append(tag)
        with pika_errors():
            if settled:
                self._channel.raw.basic_ack(settled, multiple=len(done) > 1)
            for tag in self._late_acks:
                if tag > settled:
                    self._channel.raw.basic_ack(tag)
                    done.append(tag)
        for tag in done:
            del self._open[tag]
        self._late_acks.clear()


class Subscriptions:
    """All consumers of a process, over the connections that a link brings."""

    def __init__(self, server: str, metrics: Metrics) -> None:
        self._server = server
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._all: list[AmqpSubscription] = []
        self._numbers = count(1)
        self._connection: AmqpConnection | None = None
        self._up = asyncio.Event()
        self._asking = asyncio.Lock()
        self._asked_on: AmqpChannel | None = None
        self._woken: asyncio.Future[None] = self._loop.create_future()

    async def serve(self, connection: AmqpConnection) -> None:
        """Keep all subscriptions consuming on a connection until it is lost."""
        self._connection = connection
        self._up.set()
        attempt = 0
        while not connection.is_lost:
            self._woken = self._loop.create_future()
            attempt = 0 if await self._restart(connection) else attempt + 1
            pause = pause_s(attempt, random.random()) if attempt else None
            ends: list[asyncio.Future[Any]] = [connection.lost, self._woken]
            await asyncio.wait(ends, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        self._up.clear()
        self._connection = None

    @asynccontextmanager
    async def subscribe(self, spec: QueueSpec) -> AsyncIterator[AmqpSubscription]:
        """Consume a queue inside the block.

        Raises:
            ChannelClosedError: the server refuses the queue. UnavailableError: no connection.
        """
        subscription = AmqpSubscription(spec, numbers=self._numbers, on_lost=self._wake, metrics=self._metrics)
        try:
            await subscription.start(await self._connected())
            self._all.append(subscription)
            self._wake()  # the channel may be gone already
            yield subscription
        finally:
            if subscription in self._all:
                self._all.remove(subscription)
            await subscription.leave()

    async def depth(self, queue: str) -> int:
        """Return how many messages wait in a queue; 0 when there is none. Raises UnavailableError."""
        async with self._asking:  # one at a time: a queue that is not there closes the channel
            channel = self._asked_on
            if channel is None or channel.closed.done():
                channel = self._asked_on = await AmqpChannel.open(await self._connected())
            try:
                answer = await channel.call(channel.raw.queue_declare, queue, passive=True)
            except ChannelClosedError as err:
                if err.reply_code == _NOT_FOUND:
                    return 0
                raise
            return int(answer.method.message_count)

    async def _connected(self) -> AmqpConnection:
        try:
            async with asyncio.timeout(START_WAIT_S):
                while self._connection is None or self._connection.is_lost:
                    self._up.clear()
                    await self._up.wait()
        except TimeoutError as err:
            raise UnavailableError(f"RabbitMQ at {self._server}: no connection") from err
        return self._connection

    async def _restart(self, connection: AmqpConnection) -> bool:
        """Start each subscription that does not consume; return whether all do."""
        for subscription in [each for each in self._all if not each.is_consuming]:
            try:
                await subscription.start(connection)
            except UnavailableError as err:
                _log.warning("broker refuses a queue", server=self._server, queue=subscription.name, reason=str(err))
                if isinstance(err, ChannelClosedError) and err.is_lasting:
                    subscription.fail(str(err))
        return all(each.is_consuming for each in self._all)

    def _wake(self) -> None:
        if not self._woken.done():
            self._woken.set_result(None)
