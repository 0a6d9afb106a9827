"""What every Broker promises: fan-out, shared queues, answers, expiry, prefetch, redelivery. Over the in-process broker and RabbitMQ."""

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from core.adapters.amqp import open_amqp
from core.adapters.memory_broker import MemoryBroker, topic_matches
from core.errors import UnavailableError
from core.ports import Broker, Delivery, QueueSpec, Subscription
from core.settings import BrokerSettings
from tests.builders.amqp import forget

SOON_S = 10.0  # at most; a busy machine may need it
NOTHING_S = 0.3  # how long a test waits for what must not come


@dataclass(frozen=True)
class Process:
    """Something with a connection of its own."""

    broker: Broker
    prefix: str
    names: set[str]

    def name(self, short: str) -> str:
        """Return a name that no other test uses."""
        self.names.add(f"{self.prefix}.{short}")
        return f"{self.prefix}.{short}"

    def queue(self, short: str, **kwargs: object) -> QueueSpec:
        return QueueSpec(name=self.name(short), **({"expires_s": 30.0} | kwargs))  # type: ignore[arg-type]


@asynccontextmanager
async def opened(kind: str, amqp_url: str, prefix: str) -> AsyncIterator[list[Process]]:
    """Two processes on the same broker."""
    names: set[str] = set()
    if kind == "memory":
        broker = MemoryBroker()
        yield [Process(broker, prefix, names), Process(broker, prefix, names)]
        return
    async with (
        open_amqp(amqp_url, BrokerSettings(), name="contract one") as one,
        open_amqp(amqp_url, BrokerSettings(), name="contract two") as two,
    ):
        yield [Process(one, prefix, names), Process(two, prefix, names)]
    await asyncio.to_thread(forget, amqp_url, names)


@pytest.fixture(params=["memory", "rabbitmq"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def processes(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[list[Process]]:
    url = request.getfixturevalue("amqp_url") if kind == "rabbitmq" else ""
    async with opened(kind, url, f"test.{uuid.uuid4().hex[:8]}") as both:
        yield both


async def next_of(subscription: Subscription) -> Delivery:
    async with asyncio.timeout(SOON_S):
        return await subscription.get()


async def has_nothing(subscription: Subscription) -> bool:
    try:
        async with asyncio.timeout(NOTHING_S):
            await subscription.get()
    except TimeoutError:
        return True
    return False


async def test_a_fanout_reaches_every_queue(processes: list[Process]) -> None:
    asker, matcher = processes
    bindings = ((asker.name("probes"), "fanout", ""),)
    async with (
        matcher.broker.subscribe(matcher.queue("shard.0", bindings=bindings)) as zero,
        matcher.broker.subscribe(matcher.queue("shard.1", bindings=bindings)) as one,
    ):
        await asker.broker.publish(asker.name("probes"), "any", b"batch")
        assert [(await next_of(zero)).body, (await next_of(one)).body] == [b"batch", b"batch"]


async def test_replicas_share_a_queue(processes: list[Process]) -> None:
    asker, matcher = processes
    async with matcher.broker.subscribe(matcher.queue("shard")) as one, asker.broker.subscribe(asker.queue("shard")) as two:
        for number in range(20):
            await asker.broker.publish("", asker.name("shard"), bytes([number]))
        taken = []
        for replica in itertools.islice(itertools.cycle((one, two)), 20):
            delivery = await next_of(replica)
            replica.ack(delivery)
            taken.append(delivery.body[0])
    assert sorted(taken) == list(range(20))


async def test_an_answer_finds_the_asker(processes: list[Process]) -> None:
    asker, matcher = processes
    async with asker.broker.subscribe(QueueSpec(name="")) as answers, matcher.broker.subscribe(matcher.queue("shard")) as questions:
        assert answers.name
        await asker.broker.publish("", asker.name("shard"), b"who?", reply_to=answers.name, correlation_id="batch-7")
        question = await next_of(questions)
        await matcher.broker.publish("", question.reply_to, b"ada", correlation_id=question.correlation_id, confirm=False)
        questions.ack(question)
        answer = await next_of(answers)
    assert (answer.body, answer.correlation_id, answer.reply_to) == (b"ada", "batch-7", "")


async def test_topics_are_matched_by_pattern(processes: list[Process]) -> None:
    one, two = processes
    live = one.name("live")
    north = QueueSpec(name="", bindings=((live, "topic", "north"),))
    all_doors = QueueSpec(name="", bindings=((live, "topic", "*.door"),))
    everything = QueueSpec(name="", bindings=((live, "topic", "#"),))
    keys = ["north", "south", "north.door", "north.gate.door"]
    async with one.broker.subscribe(north) as n, one.broker.subscribe(all_doors) as d, two.broker.subscribe(everything) as e:
        for key in keys:
            await two.broker.publish(live, key, b"")
        assert [(await next_of(e)).routing_key for _ in keys] == keys
        assert (await next_of(n)).routing_key == "north"
        assert (await next_of(d)).routing_key == "north.door"
        assert await has_nothing(n)
        assert await has_nothing(d)


@pytest.mark.parametrize(
    ("pattern", "key", "fits"),
    [("a.*", "a.b", True), ("a.*", "a", False), ("a.#", "a", True), ("#.c", "a.b.c", True), ("a.*.c", "a.b.b.c", False), ("*", "", True)],
)
def test_patterns_of_the_memory_broker(pattern: str, key: str, fits: bool) -> None:
    assert topic_matches(pattern, key) is fits


async def test_a_message_that_expired_never_comes(processes: list[Process]) -> None:
    asker, matcher = processes
    async with matcher.broker.subscribe(matcher.queue("shard", prefetch=1)) as shard:
        await asker.broker.publish("", asker.name("shard"), b"first")
        busy = await next_of(shard)
        await asker.broker.publish("", asker.name("shard"), b"hurried", expires_s=0.2)
        await asker.broker.publish("", asker.name("shard"), b"patient", expires_s=60.0)
        await asker.broker.publish("", asker.name("shard"), b"too late", expires_s=-1.0)
        await asyncio.sleep(0.5)
        shard.ack(busy)
        assert (await next_of(shard)).body == b"patient"


async def test_what_was_not_acknowledged_comes_again_to_the_next(processes: list[Process]) -> None:
    asker, matcher = processes
    async with asker.broker.subscribe(asker.queue("shard")) as stays:
        async with matcher.broker.subscribe(matcher.queue("shard")) as leaves:
            for number in range(4):
                await asker.broker.publish("", asker.name("shard"), bytes([number]))
            mine = [await next_of(stays), await next_of(stays)]
            theirs = [await next_of(leaves), await next_of(leaves)]
            leaves.ack(theirs[0])
            for delivery in mine:
                stays.ack(delivery)
        again = await next_of(stays)
        stays.ack(again)
        assert again.body == theirs[1].body
        assert again.redelivered
        assert not mine[0].redelivered
        leaves.ack(theirs[1])  # too late: it is somebody else's
        assert await has_nothing(stays)


async def test_a_prefetch_bounds_what_is_in_hand(processes: list[Process]) -> None:
    asker, matcher = processes
    async with matcher.broker.subscribe(matcher.queue("shard", prefetch=2)) as shard:
        for number in range(5):
            await asker.broker.publish("", asker.name("shard"), bytes([number]))
        first, second = await next_of(shard), await next_of(shard)
        assert await has_nothing(shard)
        assert await asker.broker.depth(asker.name("shard")) == 3
        shard.ack(second)
        shard.ack(second)  # once more changes nothing
        assert (await next_of(shard)).body == b"\x02"
        assert await has_nothing(shard)
        shard.ack(first)
        assert (await next_of(shard)).body == b"\x03"


async def test_acknowledgements_in_any_order(processes: list[Process]) -> None:
    asker, matcher = processes
    async with matcher.broker.subscribe(matcher.queue("shard", prefetch=8)) as shard:
        for number in range(8):
            await asker.broker.publish("", asker.name("shard"), bytes([number]))
        deliveries = [await next_of(shard) for _ in range(8)]
        for index in (7, 0, 3, 1, 5):
            shard.ack(deliveries[index])
        await asyncio.sleep(0)
        shard.ack(deliveries[2])
    async with asker.broker.subscribe(asker.queue("shard", prefetch=8)) as next_one:
        left = [(await next_of(next_one)).body[0] for _ in range(2)]
        assert sorted(left) == [4, 6]
        assert await has_nothing(next_one)


async def test_a_rejected_message_comes_again_or_never(processes: list[Process]) -> None:
    asker, matcher = processes
    async with matcher.broker.subscribe(matcher.queue("shard")) as shard:
        await asker.broker.publish("", asker.name("shard"), b"x")
        shard.reject(await next_of(shard), requeue=True)
        again = await next_of(shard)
        assert again.redelivered
        shard.reject(again, requeue=False)
        assert await has_nothing(shard)


async def test_a_message_that_reaches_no_queue_is_no_error(processes: list[Process]) -> None:
    asker, matcher = processes
    await asker.broker.publish(asker.name("no exchange"), "key", b"x")
    await asker.broker.publish(asker.name("no exchange"), "key", b"x", confirm=False)
    await asker.broker.publish("", asker.name("no queue"), b"x")
    async with matcher.broker.subscribe(matcher.queue("late", bindings=((asker.name("no exchange"), "direct", "key"),))) as late:
        first = asyncio.ensure_future(next_of(late))
        while not first.done():  # an exchange that another process made is seen after a while
            await asker.broker.publish(asker.name("no exchange"), "other", b"y")
            await asker.broker.publish(asker.name("no exchange"), "key", b"z")
            await asyncio.wait({first}, timeout=0.1)
        assert (await first).body == b"z"


async def test_depth_counts_what_waits(processes: list[Process]) -> None:
    asker, matcher = processes
    assert await asker.broker.depth(asker.name("shard")) == 0
    async with matcher.broker.subscribe(matcher.queue("shard")):
        pass
    for _ in range(3):
        await asker.broker.publish("", asker.name("shard"), b"x")
    assert await matcher.broker.depth(asker.name("shard")) == 3


async def test_an_unnamed_queue_goes_with_its_subscription(processes: list[Process]) -> None:
    asker, matcher = processes
    async with asker.broker.subscribe(QueueSpec(name="")) as answers:
        name = answers.name
        await matcher.broker.publish("", name, b"x")
        assert (await next_of(answers)).body == b"x"
    await matcher.broker.publish("", name, b"x")
    assert await asker.broker.depth(name) == 0


async def test_a_queue_without_consumers_goes_after_its_time(processes: list[Process]) -> None:
    asker, matcher = processes
    async with matcher.broker.subscribe(matcher.queue("shard", expires_s=0.3)):
        await asyncio.sleep(0.6)
        await asker.broker.publish("", asker.name("shard"), b"kept")
    assert await asker.broker.depth(asker.name("shard")) == 1
    for _ in range(10):
        await asyncio.sleep(1.0)  # on RabbitMQ each look at a queue gives it its time anew
        if await asker.broker.depth(asker.name("shard")) == 0:
            return
    pytest.fail("the queue is still there")


async def test_a_queue_of_another_kind_is_refused_in_one_line_and_harms_nobody(processes: list[Process]) -> None:
    asker, matcher = processes
    async with matcher.broker.subscribe(matcher.queue("shard")) as shard:
        with pytest.raises(UnavailableError, match=r"queue '.*shard'.*") as refused:
            async with matcher.broker.subscribe(matcher.queue("shard", kind="quorum")):
                pass
        assert "\n" not in str(refused.value)
        await asker.broker.publish("", asker.name("shard"), b"x")
        assert (await next_of(shard)).body == b"x"


async def test_an_exchange_of_another_type_is_refused(processes: list[Process]) -> None:
    asker, matcher = processes
    async with matcher.broker.subscribe(QueueSpec(name="", bindings=((asker.name("live"), "topic", "#"),))):
        with pytest.raises(UnavailableError, match="exchange"):
            async with asker.broker.subscribe(QueueSpec(name="", bindings=((asker.name("live"), "fanout", ""),))):
                pass


async def test_a_quorum_queue_puts_aside_what_nobody_can_process(processes: list[Process]) -> None:
    asker, matcher = processes
    quorum = asker.queue("work", kind="quorum", expires_s=None, prefetch=1)
    async with matcher.broker.subscribe(quorum) as work:
        await asker.broker.publish("", asker.name("work"), b"poison")
        await asker.broker.publish("", asker.name("work"), b"refused")
        await asker.broker.publish("", asker.name("work"), b"good")
        rejected = 0
        async with asyncio.timeout(SOON_S):
            while (delivery := await work.get()).body != b"good":
                work.reject(delivery, requeue=delivery.body == b"poison")
                rejected += delivery.body == b"poison"
        work.ack(delivery)
    assert rejected == 21
    dead = QueueSpec(name="dead." + asker.name("work"), kind="quorum")
    async with asker.broker.subscribe(dead) as aside:
        letters = [await next_of(aside) for _ in range(2)]
        for letter in letters:
            aside.ack(letter)
    assert {letter.body for letter in letters} == {b"poison", b"refused"}


async def test_many_publishers_at_once(processes: list[Process]) -> None:
    asker, matcher = processes
    async with matcher.broker.subscribe(matcher.queue("shard", prefetch=64)) as shard, asyncio.TaskGroup() as group:
        for number in range(2000):
            group.create_task(asker.broker.publish("", asker.name("shard"), number.to_bytes(2, "big") + bytes(3000)))
        numbers = set()
        async with asyncio.timeout(30):
            while len(numbers) < 2000:
                delivery = await shard.get()
                shard.ack(delivery)
                numbers.add(int.from_bytes(delivery.body[:2], "big"))


async def test_a_body_larger_than_a_frame(processes: list[Process]) -> None:
    asker, matcher = processes
    body = bytes(range(256)) * 2000  # 512 kB
    async with matcher.broker.subscribe(matcher.queue("shard")) as shard:
        await asker.broker.publish("", asker.name("shard"), body)
        await asker.broker.publish("", asker.name("shard"), b"")
        assert (await next_of(shard)).body == body
        assert (await next_of(shard)).body == b""


async def test_a_full_queue_in_this_process_drops_its_oldest_or_refuses() -> None:
    broker = MemoryBroker(capacity_bytes=10)
    for spec in (QueueSpec(name="transient"), QueueSpec(name="quorum", kind="quorum")):
        async with broker.subscribe(spec):
            pass
    for body in (b"aaaa", b"bbbb", b"cccc"):
        await broker.publish("", "transient", body)
    async with broker.subscribe(QueueSpec(name="transient")) as rest:
        assert [(await rest.get()).body for _ in range(2)] == [b"bbbb", b"cccc"]
    await broker.publish("", "quorum", b"12345678")
    with pytest.raises(UnavailableError, match="quorum is full"):
        await broker.publish("", "quorum", b"9999")
    await broker.publish("", "quorum", b"9999", confirm=False)
    assert await broker.depth("quorum") == 1
