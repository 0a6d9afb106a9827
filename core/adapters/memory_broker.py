"""The message broker in this process: exchanges, bounded queues, prefetch, redelivery, expiry. Standalone's counterpart of RabbitMQ.

What RabbitMQ promises in ``core/adapters/amqp*.py`` holds here too: the same contract tests run over both. Nothing survives the process.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from core.errors import UnavailableError
from core.ports import Delivery, QueueSpec, Subscription
from core.topology import DEAD_PREFIX

CAPACITY_BYTES: Final = 256 << 20  # of waiting bodies in one queue
DELIVERY_LIMIT: Final = 20  # as on RabbitMQ: then a quorum queue puts the message aside


@dataclass(slots=True)
class _Message:
    body: bytes
    routing_key: str
    reply_to: str
    correlation_id: str
    expires_at_s: float
    number: int
    """In the order of arrival: a message that comes back takes its old place."""
    deliveries: int = 0


@dataclass(slots=True)
class _Queue:
    name: str
    spec: QueueSpec
    bindings: set[tuple[str, str]] = field(default_factory=set)
    waiting: deque[_Message] = field(default_factory=deque)
    waiting_bytes: int = 0
    consumers: deque["MemorySubscription"] = field(default_factory=deque)
    expiry: asyncio.TimerHandle | None = None

    @property
    def puts_aside(self) -> bool:
        """Whether what nobody can process is kept in a queue of dead letters."""
        return self.spec.kind == "quorum" and not self.name.startswith(DEAD_PREFIX)


def topic_matches(pattern: str, key: str) -> bool:
    """Return whether a routing key fits a pattern of words and dots; ``*`` is one word, ``#`` any number of them."""
    return _words_match(pattern.split("."), key.split("."))


def _words_match(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_words_match(pattern[1:], words[skipped:]) for skipped in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _words_match(pattern[1:], words[1:])


class MemoryBroker:
    """In-process adapter of core.ports.Broker. Thread rule: one event loop."""

    def __init__(self, *, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self._capacity_bytes = capacity_bytes
        self._exchanges: dict[str, str] = {}
        self._queues: dict[str, _Queue] = {}
        self._numbers = count(1)

    async def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        *,
        reply_to: str = "",
        correlation_id: str = "",
        expires_s: float | None = None,
        confirm: bool = True,
    ) -> None:
        """Put a message into every queue that is bound to it; a full transient queue drops its oldest.

        Raises:
            UnavailableError: with ``confirm``, a quorum queue is full.
        """
        expires_at_s = float("inf") if expires_s is None else asyncio.get_running_loop().time() + expires_s
        full = []
        for queue in self._reached(exchange, routing_key):
            message = _Message(body, routing_key, reply_to, correlation_id, expires_at_s, next(self._numbers))
            if not self._put(queue, message):
                full.append(queue.name)
        if full and confirm:
            raise UnavailableError(f"broker: {', '.join(full)} is full ({self._capacity_bytes} bytes wait)")
        await asyncio.sleep(0)  # a publisher in a loop lets the consumers work

    def subscribe(self, queue: QueueSpec) -> AbstractAsyncContextManager[Subscription]:
        """Declare a queue with its exchanges and bindings, and consume it inside the block.

        Raises:
            UnavailableError: the exchange or the queue exists and is of another kind.
        """
        return self._subscribe(queue)

    async def depth(self, queue: str) -> int:
        """Return how many messages wait in a queue; 0 when there is none."""
        found = self._queues.get(queue)
        if found is None:
            return 0
        self._drop_expired(found)
        return len(found.waiting)

    @asynccontextmanager
    async def _subscribe(self, spec: QueueSpec) -> AsyncIterator["MemorySubscription"]:
        queue = self._declare(spec)
        subscription = MemorySubscription(self, queue, prefetch=spec.prefetch)
        queue.consumers.append(subscription)
        self._deliver(queue)
        try:
            yield subscription
        finally:
            queue.consumers.remove(subscription)
            for message in subscription._give_up():
                self._put_back(queue, message)
            self._left(queue)
            self._deliver(queue)

    def _declare(self, spec: QueueSpec) -> _Queue:
        for exchange, kind, _ in spec.bindings:
            if self._exchanges.setdefault(exchange, kind) != kind:
                raise UnavailableError(f"broker: exchange {exchange!r} is {self._exchanges[exchange]}, not {kind}")
        name = spec.name or f"unnamed.{next(self._numbers)}"
        queue = self._queues.setdefault(name, _Queue(name, spec))
        if (queue.spec.kind, queue.spec.expires_s) != (spec.kind, spec.expires_s):
            raise UnavailableError(f"broker: queue {name!r} exists with another kind or expiry")
        queue.bindings.update((exchange, key) for exchange, _, key in spec.bindings)
        if queue.expiry is not None:
            queue.expiry.cancel()
            queue.expiry = None
        return queue

    def _left(self, queue: _Queue) -> None:
        """A consumer left: an unnamed queue goes with it, another one after its time without consumers."""
        if queue.consumers:
            return
        if not queue.spec.name:
            self._queues.pop(queue.name, None)
        elif queue.spec.expires_s is not None:
            queue.expiry = asyncio.get_running_loop().call_later(queue.spec.expires_s, self._queues.pop, queue.name, None)

    def _reached(self, exchange: str, routing_key: str) -> list[_Queue]:
        if not exchange:
            return [self._queues[routing_key]] if routing_key in self._queues else []
        kind = self._exchanges.get(exchange)
        return [q for q in self._queues.values() if any(e == exchange and _is_bound(kind, key, routing_key) for e, key in q.bindings)]

    def _put(self, queue: _Queue, message: _Message) -> bool:
        """Append a message, if the queue takes it, and deliver what can be delivered."""
        if queue.waiting_bytes + len(message.body) > self._capacity_bytes:
            self._drop_expired(queue)
        while queue.waiting and queue.waiting_bytes + len(message.body) > self._capacity_bytes:
            if queue.spec.kind == "quorum":
                return False
            queue.waiting_bytes -= len(queue.waiting.popleft().body)
        queue.waiting.append(message)
        queue.waiting_bytes += len(message.body)
        self._deliver(queue)
        return True

    def _put_back(self, queue: _Queue, message: _Message) -> None:
        """Take a delivered message back to its old place; a quorum queue puts aside what came back too often."""
        if queue.puts_aside and message.deliveries > DELIVERY_LIMIT:
            self._put_aside(queue, message)
            return
        place = next((i for i, other in enumerate(queue.waiting) if other.number > message.number), len(queue.waiting))
        queue.waiting.insert(place, message)
        queue.waiting_bytes += len(message.body)

    def _put_aside(self, queue: _Queue, message: _Message) -> None:
        name = DEAD_PREFIX + queue.name
        aside = self._queues.setdefault(name, _Queue(name, QueueSpec(name=name, kind="quorum")))
        message.deliveries = 0
        message.expires_at_s = float("inf")
        self._put(aside, message)

    def _drop_expired(self, queue: _Queue) -> None:
        now_s = asyncio.get_running_loop().time()
        expired = [message for message in queue.waiting if message.expires_at_s <= now_s]
        if expired:
            queue.waiting = deque(message for message in queue.waiting if message.expires_at_s > now_s)
            queue.waiting_bytes -= sum(len(message.body) for message in expired)
            if queue.puts_aside:
                for message in expired:
                    self._put_aside(queue, message)

    def _deliver(self, queue: _Queue) -> None:
        """Hand messages to consumers with room, in turn."""
        now_s = asyncio.get_running_loop().time()
        while queue.waiting:
            if queue.waiting[0].expires_at_s <= now_s:
                self._drop_expired(queue)
                continue
            consumer = next((c for c in queue.consumers if c._has_room), None)
            if consumer is None:
                return
            queue.consumers.remove(consumer)
            queue.consumers.append(consumer)
            message = queue.waiting.popleft()
            queue.waiting_bytes -= len(message.body)
            consumer._take(message)


def _is_bound(kind: str | None, binding_key: str, routing_key: str) -> bool:
    if kind == "topic":
        return topic_matches(binding_key, routing_key)
    return kind == "fanout" or (kind == "direct" and binding_key == routing_key)


class MemorySubscription:
    """A consumer of one queue of a MemoryBroker."""

    def __init__(self, broker: MemoryBroker, queue: _Queue, *, prefetch: int) -> None:
        self._broker = broker
        self._queue = queue
        self._prefetch = prefetch
        self._number = next(broker._numbers)
        self._tags = count(1)
        self._open: dict[int, _Message] = {}
        self._arrived: asyncio.Queue[Delivery] = asyncio.Queue()  # bounded by the prefetch

    @property
    def name(self) -> str:
        """The queue's name."""
        return self._queue.name

    async def get(self) -> Delivery:
        """Return the next message, waiting for one."""
        return await self._arrived.get()

    def ack(self, delivery: Delivery) -> None:
        """Say that a message is done; nothing happens if it was settled before."""
        if self._settled(delivery) is not None:
            self._broker._deliver(self._queue)

    def reject(self, delivery: Delivery, *, requeue: bool) -> None:
        """Give a message back, or away for good (a quorum queue puts it aside); nothing happens if it was settled before."""
        message = self._settled(delivery)
        if message is None:
            return
        if requeue:
            self._broker._put_back(self._queue, message)
        elif self._queue.puts_aside:
            self._broker._put_aside(self._queue, message)
        self._broker._deliver(self._queue)

    @property
    def _has_room(self) -> bool:
        return len(self._open) < self._prefetch

    def _settled(self, delivery: Delivery) -> _Message | None:
        number, tag = delivery.tag
        return self._open.pop(tag, None) if number == self._number else None

    def _take(self, message: _Message) -> None:
        tag = next(self._tags)
        self._open[tag] = message
        message.deliveries += 1
        self._arrived.put_nowait(
            Delivery(
                body=message.body,
                routing_key=message.routing_key,
                reply_to=message.reply_to,
                correlation_id=message.correlation_id,
                redelivered=message.deliveries > 1,
                tag=(self._number, tag),
            )
        )

    def _give_up(self) -> list[_Message]:
        """Return what was delivered and not settled, and forget it."""
        left = list(self._open.values())
        self._open.clear()
        return left
