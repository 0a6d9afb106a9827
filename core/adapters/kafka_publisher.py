"""Publishing to Kafka: idempotent, acknowledged by all replicas, one record a call."""

import asyncio
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from core.adapters.kafka_config import DELIVERY_S, MAX_RECORD_BYTES, producer_config
from core.adapters.kafka_report import Reporter
from core.errors import MessageError, UnavailableError
from core.metrics import Metrics
from core.topology import DEAD_PREFIX

POLL_S = 0.5  # the thread sleeps inside librdkafka, which wakes it for each acknowledgement; this is only how soon it sees the end
FLUSH_S = 5.0
FULL_RETRY_S = 0.01
LOOK_AGAIN_S = 1.0  # a topic that was not there is asked for again this often, while someone wants to publish to it
ABSENT = frozenset({KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION})
TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE, KafkaError.RECORD_LIST_TOO_LARGE})

Headers = Sequence[tuple[str, bytes]]
Settled = tuple["asyncio.Future[None]", KafkaError | None]


def absent(topic: str) -> str:
    """Return the one line about a topic that is not there."""
    return f"Kafka has no topic {topic}; 'sightline topics ensure' makes the topics of the fleet"


class KafkaPublisher:
    """A producer with a thread that waits for acknowledgements. Thread rule: one event loop."""

    def __init__(self, base: dict[str, Any], reporter: Reporter, metrics: Metrics) -> None:
        """Take client settings (see kafka_config.client_config); nothing is opened before ``start``."""
        self._config = producer_config(base) | reporter.config()
        self._reporter = reporter
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._settling: list[Settled] = []
        self._closing = threading.Event()
        self._missing: dict[str, float] = {}
        self._producer = Producer(self._config)
        self._thread = threading.Thread(target=self._run, name="kafka-publish", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def close(self) -> None:
        """Give what is on its way FLUSH_S to be acknowledged, then let go."""
        self._closing.set()
        await asyncio.to_thread(self._thread.join, FLUSH_S + 2 * POLL_S)

    async def publish(self, topic: str, key: str, value: bytes, headers: Headers = ()) -> None:
        """Publish and return once all in-sync replicas have the record.

        A record that timed out may still arrive later, when the brokers come back just then; ids are derived from what a record is
        about, so that a second copy changes nothing.

        Raises:
            UnavailableError: not acknowledged within DELIVERY_S (and up to a second more), no such topic, or not allowed.
            MessageError: larger than MAX_RECORD_BYTES or than the topic takes.
        """
        if len(value) > MAX_RECORD_BYTES and not topic.startswith(DEAD_PREFIX):
            raise MessageError(f"{topic}: a record of {len(value)} bytes is larger than {MAX_RECORD_BYTES}")
        began_s = time.monotonic()
        future: asyncio.Future[None] = self._loop.create_future()
        error = await self._enqueue(topic, key, value, headers, future)
        if error is None:
            try:
                await future
            except KafkaException as err:
                error = err.args[0]
        if error is not None:
            self._metrics.log_publish_failures.labels(topic, error.name()).inc()
            raise self._explained(error, topic, len(value))
        self._reporter.answered()
        self._metrics.log_publish_seconds.labels(topic).observe(time.monotonic() - began_s)

    async def _enqueue(self, topic: str, key: str, value: bytes, headers: Headers, future: "asyncio.Future[None]") -> KafkaError | None:
        """Hand a record to librdkafka, waiting while its queue is full."""
        give_up_s = time.monotonic() + DELIVERY_S
        while True:
            try:
                self._producer.produce(
                    topic, value=value, key=key.encode(), headers=list(headers), on_delivery=partial(self._delivered, future)
                )
            except BufferError:
                if time.monotonic() > give_up_s:
                    return KafkaError(KafkaError._QUEUE_FULL)
                await asyncio.sleep(FULL_RETRY_S)
            except KafkaException as err:
                return _error_of(err)
            else:
                return None

    def missing(self, topics: Sequence[str], timeout_s: float) -> list[str]:
        """Return those of some topics that are not there. Thread rule: any; blocks for up to timeout_s.

        Raises:
            UnavailableError: no broker answers.
        """
        try:
            there = self._producer.list_topics(timeout=timeout_s).topics
        except KafkaException as err:
            raise UnavailableError(self._reporter.trouble or f"Kafka does not answer: {_error_of(err).str()}") from err
        self._reporter.answered()
        return [topic for topic in topics if topic not in there]

    def _delivered(self, future: "asyncio.Future[None]", error: KafkaError | None, _message: Message) -> None:
        """Collect an outcome. Thread rule: the publisher's thread, inside librdkafka's poll."""
        self._settling.append((future, error))

    def _run(self) -> None:
        """Serve librdkafka until the end. Thread rule: the publisher's thread."""
        give_up_s: float | None = None
        while give_up_s is None or (len(self._producer) and time.monotonic() < give_up_s):
            self._producer.poll(POLL_S)
            if self._settling:
                self._cross()
            if self._missing:
                self._look_again()
            if self._reporter.fatal:
                self._renew()
            if self._closing.is_set() and give_up_s is None:
                give_up_s = time.monotonic() + FLUSH_S

    def _cross(self) -> None:
        """Bring outcomes to the event loop: the one place where the thread meets it."""
        settled, self._settling = self._settling, []
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_settle, settled)

    def _renew(self) -> None:
        """Begin with a new producer: after a fatal error (sequence numbers out of step after an outage) the old one refuses all."""
        self._reporter.say("kafka producer begins anew")
        self._reporter.fatal = False
        old, self._producer = self._producer, Producer(self._config)
        old.purge()
        old.flush(FLUSH_S)  # what was purged is told to its publishers
        self._cross()

    def _look_again(self) -> None:
        """Ask whether a missing topic is there by now: librdkafka itself would ask only much later."""
        now_s = time.monotonic()
        for topic, asked_s in list(self._missing.items()):
            if now_s - asked_s >= LOOK_AGAIN_S:
                del self._missing[topic]
                try:
                    self._producer.list_topics(topic, timeout=LOOK_AGAIN_S)
                except KafkaException as err:
                    self._reporter.on_error(_error_of(err))

    def _explained(self, error: KafkaError, topic: str, size: int) -> UnavailableError | MessageError:
        """Return an error of librdkafka in our words."""
        code = error.code()
        if code in TOO_LARGE:
            return MessageError(
                f"{topic}: a record of {size} bytes is larger than the topic takes (max.message.bytes); 'sightline topics ensure' sets it"
            )
        if code in ABSENT:
            self._missing.setdefault(topic, time.monotonic())
            self._reporter.say(f"no topic {topic}", reason=absent(topic))
            return UnavailableError(absent(topic))
        if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return UnavailableError(f"Kafka does not let this user write to {topic}; grant it WRITE and IDEMPOTENT_WRITE")
        why = self._reporter.trouble or f"Kafka did not take a record of {topic}: {error.str()}"
        return UnavailableError(why)


def _settle(settled: Sequence[Settled]) -> None:
    """Wake the publishers. Thread rule: the event loop."""
    for future, error in settled:
        if future.done():  # its publisher was cancelled
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(KafkaException(error))


def _error_of(err: KafkaException) -> KafkaError:
    error: KafkaError = err.args[0]
    return error
