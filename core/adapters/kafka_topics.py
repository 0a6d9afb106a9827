"""Topics of the fleet: made, grown, looked at. Blocking calls: commands make them directly, services in a thread."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from core.adapters.kafka_config import client_config
from core.adapters.kafka_plan import SIZE_KEY, TopicSpec
from core.adapters.kafka_report import Reporter
from core.errors import SightlineError, UnavailableError, UsageError
from core.metrics import Metrics
from core.ports import Partition
from core.settings import KafkaSettings
from core.topology import DEAD_PREFIX, FRAMES_PREFIX, SIGHTINGS_TOPIC

TIMEOUT_S = 10.0
VISIBLE_POLL_S = 0.05
CONNECT_S = 5.0  # every call begins with the list of topics: when nobody answers that, nobody is there

MOVING = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
    }
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicState:
    """A topic as it is."""

    name: str
    partitions: int
    replication: int
    records: int
    """Kept at this moment, over all partitions."""
    lag: dict[str, int]
    """Group -> records not finished; groups that never committed here are absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensured:
    """What ``ensure`` did to one topic."""

    spec: TopicSpec
    partitions: int
    """As it is now."""
    action: str
    """created, changed or kept."""


class TopicAdmin:
    """The administrator's side of a Kafka cluster. Thread rule: one thread at a time; every call may block for TIMEOUT_S.

    All methods raise UnavailableError when no broker answers, and SightlineError with the broker's words when it refuses.
    """

    def __init__(self, url: str, settings: KafkaSettings) -> None:
        """Raises SettingsError as kafka_config.client_config does; connects at the first call."""
        config = client_config(url, settings)
        self._reporter = Reporter("admin", config["bootstrap.servers"], Metrics())
        self._client = AdminClient(config | self._reporter.config())

    def partitions(self) -> dict[str, int]:
        """Return {topic: partitions} of every topic of the cluster."""
        return {name: len(topic.partitions) for name, topic in self._metadata().items()}

    def ours(self) -> list[str]:
        """Return the names of the fleet's topics that are there."""
        return sorted(name for name in self._metadata() if name.startswith((FRAMES_PREFIX, DEAD_PREFIX)) or name == SIGHTINGS_TOPIC)

    def ensure(self, specs: Sequence[TopicSpec]) -> list[Ensured]:
        """Make the topics that are not there; of the others set what their spec enforces. Never grows one."""
        there = self.partitions()
        new = [spec for spec in specs if spec.name not in there]
        topics = [NewTopic(s.name, num_partitions=s.partitions, replication_factor=s.replication, config=dict(s.config)) for s in new]
        created = self._client.create_topics(topics, operation_timeout=TIMEOUT_S) if topics else {}
        for future in created.values():
            self._result(future, but=KafkaError.TOPIC_ALREADY_EXISTS)
        old = [spec for spec in specs if spec.name in there]
        changed = self._configure([spec for spec in old if spec.enforced])
        names = {spec.name for spec in new}
        return [
            Ensured(
                spec=spec,
                partitions=there.get(spec.name, spec.partitions),
                action="created" if spec.name in names else "changed" if spec.name in changed else "kept",
            )
            for spec in specs
        ]

    def grow(self, topic: str, partitions: int) -> int:
        """Give a topic more partitions and return how many it had.

        Keys move: a camera's next frames may be in another partition, and be looked at before its last ones in the old. Nothing is
        lost or done twice; a track that lives at that moment may be told as two sightings of one episode.

        Raises:
            UsageError: no such topic, or fewer partitions than it has: Kafka can't take partitions away.
        """
        now = self.partitions().get(topic)
        if now is None:
            raise UsageError(f"topic {topic} does not exist; 'sightline topics ensure' makes the topics of the fleet")
        if partitions < now:
            raise UsageError(f"topic {topic} has {now} partitions; Kafka can't shrink it to {partitions}")
        if partitions > now:
            for future in self._client.create_partitions([NewPartitions(topic, partitions)]).values():
                self._result(future)
            give_up_s = time.monotonic() + TIMEOUT_S
            while self.partitions().get(topic, 0) < partitions and time.monotonic() < give_up_s:
                time.sleep(VISIBLE_POLL_S)  # the controller has them; brokers tell of them a moment later
        return now

    def delete(self, topics: Sequence[str]) -> None:
        """Delete topics with all they hold; those that are not there are no error."""
        for future in self._client.delete_topics(list(topics), operation_timeout=TIMEOUT_S).values() if topics else ():
            self._result(future, but=KafkaError.UNKNOWN_TOPIC_OR_PART)

    def states(self, topics: Sequence[str], groups: Sequence[str]) -> list[TopicState]:
        """Return how topics are, with the lag of groups."""
        metadata = self._metadata()
        partitions = [(name, number) for name in topics if name in metadata for number in metadata[name].partitions]
        first, end = self.offsets(partitions, OffsetSpec.earliest()), self.offsets(partitions, OffsetSpec.latest())
        committed = {group: self.committed(group, partitions) for group in groups}
        states = []
        for name in topics:
            if name not in metadata:
                continue
            own = [partition for partition in partitions if partition[0] == name]
            lag = {g: sum(end[p] - max(done.get(p, 0), first[p]) for p in own) for g, done in committed.items() if done.keys() & set(own)}
            records = sum(end[p] - first[p] for p in own)
            replication = max((len(p.replicas) for p in metadata[name].partitions.values()), default=0)
            states.append(TopicState(name=name, partitions=len(own), replication=replication, records=records, lag=lag))
        return states

    def ends(self, topics: Sequence[str]) -> dict[Partition, tuple[int, int]]:
        """Return {partition: (first offset kept, offset of the next record)} of topics, those that are not there left out."""
        metadata = self._metadata()
        partitions = [(name, number) for name in topics if name in metadata for number in metadata[name].partitions]
        first, end = self.offsets(partitions, OffsetSpec.earliest()), self.offsets(partitions, OffsetSpec.latest())
        return {partition: (first[partition], end[partition]) for partition in partitions}

    def offsets(self, partitions: Sequence[Partition], spec: Any) -> dict[Partition, int]:
        """Return an offset of each partition: earliest, latest, or the first at or after a time; -1 when there is none such."""
        if not partitions:
            return {}

        def ask() -> dict[Partition, int]:
            asked = {TopicPartition(*partition): spec for partition in partitions}
            answers = self._client.list_offsets(asked, request_timeout=TIMEOUT_S)
            return {(one.topic, one.partition): future.result(TIMEOUT_S).offset for one, future in answers.items()}

        return self._settled(ask)

    def committed(self, group: str, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """Return the offsets that a group has committed, of the partitions where it has."""
        if not partitions:
            return {}

        def ask() -> dict[Partition, int]:
            asked = ConsumerGroupTopicPartitions(group, [TopicPartition(*partition) for partition in partitions])
            answer = self._client.list_consumer_group_offsets([asked], request_timeout=TIMEOUT_S)[group].result(TIMEOUT_S)
            return {(one.topic, one.partition): one.offset for one in answer.topic_partitions if one.offset >= 0}

        return self._settled(ask)

    def _configure(self, specs: Sequence[TopicSpec]) -> set[str]:
        """Set what topics enforce and return those where that changed anything."""
        if not specs:
            return set()
        resources = {spec.name: ConfigResource(ResourceType.TOPIC, spec.name) for spec in specs}
        answers = self._client.describe_configs(list(resources.values()), request_timeout=TIMEOUT_S)
        now = {resource.name: self._result(future) for resource, future in answers.items()}
        changes = []
        for spec in specs:
            is_value = {key: entry.value for key, entry in now[spec.name].items()}
            wanted = {key: value for key, value in spec.config if key in spec.enforced and _differs(key, is_value[key], value)}
            if wanted:
                entries = [ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in wanted.items()]
                changes.append(ConfigResource(ResourceType.TOPIC, spec.name, incremental_configs=entries))
        for future in self._client.incremental_alter_configs(changes).values() if changes else ():
            self._result(future)
        return {resource.name for resource in changes}

    def _metadata(self) -> Mapping[str, Any]:
        try:
            topics: Mapping[str, Any] = self._client.list_topics(timeout=CONNECT_S).topics
        except KafkaException as err:
            raise self._explained(err) from err
        return topics

    def _settled(self, ask: Callable[[], T]) -> T:
        """Ask until the cluster knows who answers: leaders and coordinators move, and new topics have none for a moment."""
        give_up_s = time.monotonic() + TIMEOUT_S
        while True:
            try:
                return ask()
            except KafkaException as err:
                if err.args[0].code() not in MOVING or time.monotonic() > give_up_s:
                    raise self._explained(err) from err
                self._metadata()
                time.sleep(VISIBLE_POLL_S)

    def _result(self, future: "Future[T]", *, but: int | None = None) -> T | Any:
        """Return the broker's answer; an error of the code ``but`` is none."""
        try:
            return future.result(TIMEOUT_S)
        except KafkaException as err:
            if err.args[0].code() == but:
                return None
            raise self._explained(err) from err

    def _explained(self, err: KafkaException) -> SightlineError:
        error = err.args[0]
        self._client.poll(0)  # lets librdkafka tell why
        if self._reporter.trouble or error.code() in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN):
            return UnavailableError(self._reporter.trouble or f"Kafka does not answer: {error.str()}")
        return SightlineError(f"Kafka refuses: {error.str()}")


def _differs(key: str, now: str, wanted: str) -> bool:
    return int(now) < int(wanted) if key == SIZE_KEY else now != wanted
