"""A member of a Kafka consumer group: one thread talks to librdkafka, the event loop takes records and finishes them."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from core.adapters.kafka_commits import Commits
from core.adapters.kafka_config import consumer_config, subscription
from core.adapters.kafka_gauges import Gauges
from core.adapters.kafka_ledger import Ledger, Limits
from core.adapters.kafka_publisher import ABSENT, absent
from core.adapters.kafka_report import Reporter
from core.errors import UnavailableError
from core.metrics import Metrics
from core.ports import OnRevoked, Partition, Record

POLL_S = 0.1  # librdkafka wakes the thread for a record; this is only how soon commits, pauses and the end are looked at
BATCH = 64  # records taken over from librdkafka at a time
ROOM_S = 0.2  # a full buffer is waited for this long before partitions are paused: a pause makes librdkafka fetch again
HANDBACK_S = 3.0  # what is in flight when a partition goes away gets this long to be finished; half of a session
TOLD_S = 10.0  # and its owner this long to put its state away; the others of the group wait for it
CLOSE_S = 10.0

PutAside = Callable[[Record, str], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Which group, which topics, and who is told."""

    topics: tuple[str, ...]
    group: str
    on_revoked: OnRevoked | None


class KafkaConsumer:
    """Implements core.ports.Consumer over Kafka. Thread rule: one event loop; its own thread does all that may block.

    While the brokers are away ``poll`` returns nothing and ``commit`` remembers: both go on by themselves when the brokers are back.
    """

    def __init__(self, base: dict[str, Any], member: Membership, reporter: Reporter, metrics: Metrics, put_aside: PutAside) -> None:
        """Take client settings (see kafka_config.client_config); nothing is joined before ``start``."""
        self._member = member
        self._reporter = reporter
        self._metrics = metrics
        self._put_aside = put_aside
        self._loop = asyncio.get_running_loop()
        self._filled = asyncio.Event()
        self._ledger = Ledger(Limits())
        self._changed = threading.Condition()
        """Guards the ledger; notified when records were taken or finished."""
        self._commits = Commits(self._ledger, self._changed, reporter, metrics=metrics, group=member.group)
        self._gauges = Gauges(metrics, member.group)
        self._config = consumer_config(base, member.group) | reporter.config() | {"on_commit": self._commits.on_commit}
        self._closing = False
        self._failure: BaseException | None = None
        self._paused: set[Partition] = set()
        self._thread = threading.Thread(target=self._run, name=f"kafka-{member.group}", daemon=True)

    def start(self) -> None:
        """Join the group, in the background."""
        self._thread.start()

    async def close(self) -> None:
        """Commit what is finished, hand the rest back and leave the group."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        await asyncio.to_thread(self._thread.join, CLOSE_S)
        if self._thread.is_alive():
            self._reporter.say("kafka consumer did not leave in time", group=self._member.group)

    async def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Return up to max_records, one of each partition in turn, or none when the time is up or the brokers are away."""
        end_s = self._loop.time() + timeout_s
        while True:
            if self._failure is not None:
                raise self._failure
            with self._changed:
                records = self._ledger.take(max_records)
                if not self._ledger.buffered:
                    self._filled.clear()
                if records:
                    self._changed.notify_all()
                    return records
            try:
                async with asyncio.timeout_at(end_s):
                    await self._filled.wait()
            except TimeoutError:
                return []

    async def commit(self, records: Sequence[Record]) -> None:
        """Finish records, in any order; the thread tells Kafka within COMMIT_S. Records of partitions that went away change nothing."""
        with self._changed:
            self._ledger.finish(records)
            self._changed.notify_all()

    async def dead_letter(self, record: Record, reason: str) -> None:
        """Put a record aside with its reason and its headers, and finish it. Waits while the brokers are away."""
        await self._put_aside(record, reason)
        await self.commit([record])

    def _run(self) -> None:
        """Work until closed. Thread rule: the consumer's thread, as everything below but where it says otherwise."""
        consumer = Consumer(self._config)
        try:
            consumer.subscribe(
                subscription(self._member.topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            while not self._closing:
                self._fetch(consumer)
                self._pause(consumer)
                self._commits.due(consumer)
                self._gauges.observe(consumer, self._ledger, self._changed, len(self._paused))
        except KafkaException as err:
            self._fail(UnavailableError(f"Kafka, group {self._member.group}: {err.args[0].str()}"))
        except BaseException as err:  # the thread's boundary: whatever ends it must end ``poll`` too, which would wait for ever
            self._fail(err)
            raise
        finally:
            self._leave(consumer)

    def _fetch(self, consumer: Any) -> None:
        """Take over what librdkafka has fetched; wait a little for room when the buffer is full."""
        with self._changed:
            self._changed.wait_for(lambda: self._ledger.room() or self._closing or self._paused, ROOM_S)
            room = self._ledger.room()
        if not room and not self._paused:
            return
        first = consumer.poll(POLL_S)
        if first is None:
            return
        rest = consumer.consume(min(room - 1, BATCH), 0) if room > 1 else []
        records = [record for message in (first, *rest) if (record := self._record(message))]
        if records:
            self._reporter.answered()
            with self._changed:
                for record in records:
                    self._ledger.arrive(record)
            self._loop.call_soon_threadsafe(self._arrived)

    def _arrived(self) -> None:
        """Wake ``poll``: the one place where the thread's records meet the event loop. Thread rule: the event loop."""
        self._filled.set()

    def _record(self, message: Message) -> Record | None:
        error = message.error()
        if error is not None:
            if error.code() in ABSENT:
                topic = message.topic() or ", ".join(self._member.topics)
                self._reporter.say(f"no topic {topic}", reason=absent(topic))
            else:
                self._reporter.on_error(error)
            return None
        key = message.key()
        return Record(
            topic=message.topic(),
            partition=message.partition(),
            offset=message.offset(),
            key=key.decode("utf-8", "replace") if key else "",
            value=message.value() or b"",
            headers=tuple((name, value or b"") for name, value in message.headers() or ()),
        )

    def _pause(self, consumer: Any) -> None:
        """Pause and resume partitions as the buffer asks."""
        with self._changed:
            wanted = self._ledger.paused()
        if pausing := wanted - self._paused:
            consumer.pause(_partitions(pausing))
        if resuming := self._paused & set(self._ledger.partitions) - wanted:
            consumer.resume(_partitions(resuming))
        self._paused = wanted

    def _on_assign(self, _consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        self._count("assigned", len(partitions))
        self._reporter.answered()
        with self._changed:
            self._ledger.assign((one.topic, one.partition) for one in partitions)

    def _on_revoke(self, consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        """Let partitions go: finish what is in flight or hand it back, commit, then tell the owner."""
        going = [(one.topic, one.partition) for one in partitions]
        self._count("revoked", len(going))
        with self._changed:
            self._ledger.stop(going)
            self._changed.wait_for(lambda: not self._ledger.in_flight(going) or self._closing, HANDBACK_S)
            offsets = self._ledger.to_commit(going)
            self._metrics.log_handed_back.labels(self._member.group).inc(self._ledger.in_flight(going))
        self._commits.now(consumer, offsets)
        self._gone(consumer, going)

    def _on_lost(self, consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        """Partitions were taken away while nobody heard of us: others do the work again."""
        going = [(one.topic, one.partition) for one in partitions]
        self._count("lost", len(going))
        with self._changed:
            self._ledger.stop(going)
            self._metrics.log_handed_back.labels(self._member.group).inc(self._ledger.in_flight(going))
        self._gone(consumer, going)

    def _gone(self, consumer: Any, going: Sequence[Partition]) -> None:
        with self._changed:
            self._ledger.forget(going)
        if paused := self._paused & set(going):  # librdkafka would remember it, should they come back
            consumer.resume(_partitions(paused))
            self._paused -= paused
        on_revoked = self._member.on_revoked
        if on_revoked is None or self._closing or not going:
            return
        told = asyncio.run_coroutine_threadsafe(_tell(on_revoked, going), self._loop)
        try:
            error = told.exception(TOLD_S)
        except (TimeoutError, CancelledError):
            self._reporter.say("the owner of revoked partitions took too long", group=self._member.group)
        else:
            if error is not None:  # the owner's own: its poll raises it
                self._fail(error)

    def _leave(self, consumer: Any) -> None:
        with self._changed:
            offsets = self._ledger.to_commit()
        if not self._reporter.trouble:  # with the brokers away a commit would only wait for them
            self._commits.now(consumer, offsets)
        consumer.close()
        self._closing = True
        self._gauges.clear()

    def _count(self, event: str, partitions: int) -> None:
        self._metrics.log_rebalances.labels(self._member.group, event).inc(partitions)

    def _fail(self, err: BaseException) -> None:
        """Make ``poll`` raise."""
        self._failure = err
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._arrived)


async def _tell(on_revoked: OnRevoked, partitions: Sequence[Partition]) -> None:
    await on_revoked(partitions)


def _partitions(chosen: set[Partition]) -> list[TopicPartition]:
    """Return librdkafka's words for partitions."""
    return [TopicPartition(topic, number) for topic, number in chosen]
