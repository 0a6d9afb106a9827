"""A member of a Kafka consumer group: one thread talks to librdkafka, the event loop takes records and finishes them."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from core.adapters.kafka_config import consumer_config, subscription
from core.adapters.kafka_ledger import Ledger, Limits
from core.adapters.kafka_publisher import ABSENT, absent
from core.adapters.kafka_report import Reporter
from core.errors import UnavailableError
from core.metrics import Metrics
from core.ports import OnRevoked, Partition, Record

POLL_S = 0.1  # librdkafka wakes the thread for a record; this is only how soon commits, pauses and the end are looked at
BATCH = 64  # records taken over from librdkafka at a time
ROOM_S = 0.2  # a full buffer is waited for this long before partitions are paused: a pause makes librdkafka fetch again
COMMIT_S = 0.15  # between commits: what a crash makes come again, beside what was in flight
COMMIT_LOST_S = 5.0  # a commit that nobody answered is sent again
HANDBACK_S = 3.0  # what is in flight when a partition goes away gets this long to be finished; half of a session
SETTLE_S = 2.0  # a rebalance in progress is over soon after the slowest heartbeat
SETTLE_POLL_S = 0.1
TOLD_S = 10.0  # and its owner this long to put its state away; the others of the group wait for it
LAG_S = 2.0
CLOSE_S = 10.0

REBALANCING = frozenset({KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION})
"""What a commit that crosses a rebalance is told; it is sent again."""

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
        self._config = consumer_config(base, member.group) | reporter.config() | {"on_commit": self._on_commit}
        self._member = member
        self._reporter = reporter
        self._metrics = metrics
        self._put_aside = put_aside
        self._loop = asyncio.get_running_loop()
        self._filled = asyncio.Event()
        self._ledger = Ledger(Limits())
        self._changed = threading.Condition()
        """Guards the ledger; notified when records were taken or finished."""
        self._closing = False
        self._failure: BaseException | None = None
        self._paused: set[Partition] = set()
        self._committing_since_s: float | None = None
        self._committed_s = self._lag_s = 0.0
        self._lag_topics: set[str] = set()
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
                self._commit_due(consumer)
                self._observe(consumer)
        except KafkaException as err:
            self._fail(UnavailableError(f"Kafka, group {self._member.group}: {err.args[0].str()}"))
        except BaseException as err:
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

    def _commit_due(self, consumer: Any) -> None:
        """Tell Kafka in the background what is finished, one commit at a time."""
        now_s = time.monotonic()
        if now_s - self._committed_s < COMMIT_S:
            return
        if self._committing_since_s is not None and now_s - self._committing_since_s < COMMIT_LOST_S:
            return
        with self._changed:
            offsets = self._ledger.to_commit()
        if offsets:
            self._committed_s = self._committing_since_s = now_s
            try:
                consumer.commit(offsets=_partitions(offsets), asynchronous=True)
            except KafkaException as err:  # e.g. a rebalance just now: the next round tries again
                self._commit_failed(err.args[0])

    def _on_commit(self, error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
        """Note what Kafka said to a commit; what it refused is sent again."""
        self._committing_since_s = None
        failed = error or next((one.error for one in partitions if one.error), None)
        if failed is not None:
            self._commit_failed(failed)
            return
        self._reporter.answered()
        self._committed({(one.topic, one.partition): one.offset for one in partitions})

    def _committed(self, offsets: dict[Partition, int]) -> None:
        self._metrics.log_commits.labels(self._member.group, "done").inc()
        with self._changed:
            for partition, offset in offsets.items():
                self._ledger.acknowledged(partition, offset)

    def _commit_failed(self, error: KafkaError) -> None:
        self._committing_since_s = None
        self._metrics.log_commits.labels(self._member.group, "failed").inc()
        if error.code() not in REBALANCING:
            self._reporter.say(f"kafka commit {error.name()}", reason=error.str(), group=self._member.group)

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
        self._commit_now(consumer, offsets)
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

    def _commit_now(self, consumer: Any, offsets: dict[Partition, int]) -> None:
        """Commit and wait for the answer; in the midst of a rebalance the group is asked again until it has settled."""
        give_up_s = time.monotonic() + SETTLE_S
        error: KafkaError | None = None
        while offsets:
            try:
                answer = consumer.commit(offsets=_partitions(offsets), asynchronous=False)
                error = next((one.error for one in answer if one.error), None)
            except KafkaException as err:
                error = err.args[0]
            if error is None or error.code() != KafkaError.REBALANCE_IN_PROGRESS or time.monotonic() > give_up_s:
                break
            time.sleep(SETTLE_POLL_S)
        if error is not None:
            self._commit_failed(error)
        elif offsets:
            self._committed(offsets)

    def _leave(self, consumer: Any) -> None:
        with self._changed:
            offsets = self._ledger.to_commit()
        if not self._reporter.trouble:  # with the brokers away a commit would only wait for them
            self._commit_now(consumer, offsets)
        consumer.close()
        self._closing = True
        for topic in self._lag_topics:
            self._metrics.log_lag.labels(topic, self._member.group).set(0)

    def _observe(self, consumer: Any) -> None:
        """Set the gauges; high water marks are those that came with the last fetch, so that no request is made for them."""
        now_s = time.monotonic()
        if now_s - self._lag_s < LAG_S:
            return
        self._lag_s = now_s
        group = self._member.group
        with self._changed:
            positions = {partition: self._ledger.position(partition) for partition in self._ledger.partitions}
            self._metrics.log_buffered.labels(group).set(self._ledger.buffered)
            self._metrics.log_in_flight.labels(group).set(self._ledger.in_flight())
        self._metrics.log_partitions.labels(group).set(len(positions))
        self._metrics.log_paused.labels(group).set(len(self._paused))
        lag = dict.fromkeys(self._lag_topics, 0)
        for (topic, number), position in positions.items():
            high = consumer.get_watermark_offsets(TopicPartition(topic, number), cached=True)[1]
            lag[topic] = lag.get(topic, 0) + (max(0, high - position) if position is not None else 0)
        self._lag_topics |= lag.keys()
        for topic, records in lag.items():
            self._metrics.log_lag.labels(topic, group).set(records)

    def _count(self, event: str, partitions: int) -> None:
        self._metrics.log_rebalances.labels(self._member.group, event).inc(partitions)

    def _fail(self, err: BaseException) -> None:
        """Make ``poll`` raise."""
        self._failure = err
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._arrived)


async def _tell(on_revoked: OnRevoked, partitions: Sequence[Partition]) -> None:
    await on_revoked(partitions)


def _partitions(chosen: set[Partition] | dict[Partition, int]) -> list[TopicPartition]:
    """Return librdkafka's words for partitions, with offsets where given."""
    if isinstance(chosen, dict):
        return [TopicPartition(topic, number, offset) for (topic, number), offset in chosen.items()]
    return [TopicPartition(topic, number) for topic, number in chosen]
