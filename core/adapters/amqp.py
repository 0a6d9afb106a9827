"""RabbitMQ behind core.ports.Broker: two kept connections (publish, consume), confirms, topology that comes back. pika stays in here."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from core.adapters.amqp_link import AmqpLink
from core.adapters.amqp_publisher import Message, Publisher
from core.adapters.amqp_subscription import Subscriptions
from core.adapters.amqp_url import parse_amqp_url
from core.metrics import Metrics
from core.ports import Broker, QueueSpec, Subscription
from core.settings import BrokerSettings


class AmqpBroker:
    """Adapter of core.ports.Broker. Thread rule: one event loop."""

    def __init__(self, publisher: Publisher, subscriptions: Subscriptions) -> None:
        self._publisher = publisher
        self._subscriptions = subscriptions
        self._loop = asyncio.get_running_loop()

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
        """Publish; with ``confirm`` return once the server has it, otherwise once it is on its way.

        Exchange "" sends to the queue that is called like the routing key. A message that reaches no queue, or has expired, is not an
        error. Waits at most 5 s (or until the message has expired) for a connection, for room among the 1024 in flight, and for a server
        that blocks publishers; 10 s for a confirmation.

        Raises:
            UnavailableError: the waiting was in vain, or the server refused the message. It may have arrived all the same.
        """
        expires_at_s = None if expires_s is None else self._loop.time() + expires_s
        if expires_s is not None and expires_s <= 0:
            return
        message = Message(
            exchange=exchange,
            routing_key=routing_key,
            body=body,
            reply_to=reply_to,
            correlation_id=correlation_id,
            expires_at_s=expires_at_s,
        )
        await self._publisher.publish(message, confirm=confirm)

    def subscribe(self, queue: QueueSpec) -> AbstractAsyncContextManager[Subscription]:
        """Declare a queue with its exchanges and bindings, and consume it inside the block, over reconnections too.

        Raises:
            UnavailableError: no server, or it refuses the queue (arguments, permissions).
        """
        return self._subscribe(queue)

    async def depth(self, queue: str) -> int:
        """Return how many messages wait in a queue; 0 when there is none.

        Raises:
            UnavailableError: no server, or the queue belongs to a single other connection.
        """
        return await self._subscriptions.depth(queue)

    @asynccontextmanager
    async def _subscribe(self, queue: QueueSpec) -> AsyncIterator[Subscription]:
        async with self._subscriptions.subscribe(queue) as subscription:
            for exchange, _, _ in queue.bindings:
                self._publisher.exchange_declared(exchange)
            yield subscription


@asynccontextmanager
async def open_amqp(url: str, settings: BrokerSettings, *, name: str, metrics: Metrics | None = None) -> AsyncIterator[Broker]:
    """Connect to RabbitMQ and stay connected inside the block.

    Args:
        url: ``amqp://user:password@host:port/vhost``, or ``amqps://...`` with TLS.
        settings: password, CA and client certificate.
        name: what the server's list of connections calls this process.
        metrics: where connections, messages and failures are counted.

    Raises:
        SettingsError: URL, TLS files or account. UnavailableError: no server at the start; later losses are mended inside.
    """
    logging.getLogger("pika").setLevel(logging.CRITICAL)  # it logs a lost connection as a dozen errors with stacks; we say it once
    address = parse_amqp_url(url, settings)
    metrics = metrics or Metrics()
    publisher = Publisher(str(address), metrics)
    subscriptions = Subscriptions(str(address), metrics)
    links = [
        AmqpLink(address, name=name, purpose="publish", serve=publisher.serve, metrics=metrics),
        AmqpLink(address, name=name, purpose="consume", serve=subscriptions.serve, metrics=metrics),
    ]
    try:
        for link in links:
            await link.connect()
        async with asyncio.TaskGroup() as group:
            keepers = [group.create_task(link.keep()) for link in links]
            try:
                yield AmqpBroker(publisher, subscriptions)
            finally:
                for keeper in keepers:
                    keeper.cancel()
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None  # what the block raised, or what a link died of
    finally:
        for link in links:
            await link.close()
