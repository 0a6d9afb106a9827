"""A channel of an AMQP connection, with futures for pika's callbacks."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import pika
import pika.exceptions
import pika.frame
import pika.spec

from core.adapters.amqp_connection import CLOSE_TIMEOUT_S, AmqpConnection, error_text
from core.errors import UnavailableError

CALL_TIMEOUT_S: Final = 15.0  # a quorum queue elects its leader within seconds
_KNOWN_ROUTES: Final = 1024  # encoded heads of messages that a channel remembers
_ACCESS_REFUSED: Final = 403
_PRECONDITION_FAILED: Final = 406
Answer = Any
"""A method frame of pika."""


class ChannelClosedError(UnavailableError):
    """The server closed a channel because of something asked on it; the connection lives on."""

    def __init__(self, reply_code: int, text: str) -> None:
        super().__init__(text)
        self.reply_code = reply_code

    @property
    def is_lasting(self) -> bool:
        """Whether asking again is useless until a person has changed the server (permissions, arguments)."""
        return self.reply_code in (_ACCESS_REFUSED, _PRECONDITION_FAILED)


class AmqpChannel:
    """A channel with futures. What the server holds against it closes it alone."""

    def __init__(self, connection: AmqpConnection) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._address = connection.address
        self._wire = connection.wire
        self._routes: dict[tuple[str, str], bytes] = {}
        self._waiting: set[asyncio.Future[Answer]] = set()
        self.raw: Any = None
        self.closed: asyncio.Future[ChannelClosedError] = self._loop.create_future()
        """Done, with the reason, once the channel is gone, with or without its connection. Wait for it with asyncio.wait."""

    @classmethod
    async def open(cls, connection: AmqpConnection) -> "AmqpChannel":
        """Open a channel. Raises UnavailableError."""
        self = cls(connection)

        def start(callback: Callable[..., None]) -> None:
            self.raw = self._wire.channel(on_open_callback=callback)
            self.raw.add_on_close_callback(self._on_closed)

        await self.call(start)
        return self

    async def call(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Answer:
        """Call a method of the channel that takes a callback, and return the server's answer.

        Raises:
            ChannelClosedError: the server refused. UnavailableError: no connection, or no answer in time; then nobody knows what
                the server still does on this channel, and the connection is dropped.
        """
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting.add(answer)
        try:
            with pika_errors():
                method(*args, callback=partial(_resolve, answer), **kwargs)
            async with asyncio.timeout(CALL_TIMEOUT_S):
                return await answer
        except TimeoutError as err:
            self._connection.abort(f"no answer within {CALL_TIMEOUT_S:.0f} s")
            raise UnavailableError(f"RabbitMQ at {self._address} does not answer within {CALL_TIMEOUT_S:.0f} s") from err
        finally:
            self._waiting.discard(answer)

    def publish(self, exchange: str, routing_key: str, properties: pika.BasicProperties, body: bytes) -> None:
        """Send a message. Raises UnavailableError if the channel is gone."""
        if not self.raw.is_open:
            raise UnavailableError(f"RabbitMQ at {self._address}: the connection is lost")
        method = self._routes.get((exchange, routing_key))
        if method is None:
            if len(self._routes) >= _KNOWN_ROUTES:
                self._routes.clear()
            method = pika.frame.Method(
                self.raw.channel_number, pika.spec.Basic.Publish(exchange=exchange, routing_key=routing_key)
            ).marshal()
            self._routes[exchange, routing_key] = method
        self._wire.send_message(self.raw.channel_number, method, properties, body)

    async def close(self) -> None:
        """Close the channel, in bounded time; what was delivered on it and not acknowledged comes again."""
        if self.raw.is_open:
            self.raw.close()
            await asyncio.wait([self.closed], timeout=CLOSE_TIMEOUT_S)

    def _on_closed(self, _channel: Any, error: Exception) -> None:
        code = error.reply_code if isinstance(error, pika.exceptions.ChannelClosed) else 0
        closed = ChannelClosedError(code, f"RabbitMQ at {self._address}: {error_text(error)}")
        if not self.closed.done():
            self.closed.set_result(closed)
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(closed)


@contextlib.contextmanager
def pika_errors() -> Iterator[None]:
    """Turn what pika raises when a channel or connection is gone into UnavailableError."""
    try:
        yield
    except pika.exceptions.AMQPError as err:
        raise UnavailableError(f"RabbitMQ: {error_text(err)}") from err


def _resolve(answer: asyncio.Future[Answer], frame: Answer) -> None:
    if not answer.done():
        answer.set_result(frame)
