"""RabbitMQ over a bad network: cut, refused, half-closed, delayed and silent connections; servers that are none; TLS; a deleted queue."""

import asyncio
import datetime as dt
import ipaddress
import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from core.adapters.amqp import open_amqp
from core.adapters.amqp_connection import AmqpConnection
from core.adapters.amqp_link import AmqpLink
from core.adapters.amqp_url import parse_amqp_url
from core.errors import SettingsError, UnavailableError
from core.metrics import Metrics
from core.ports import Broker, Delivery, QueueSpec, Subscription
from core.settings import BrokerSettings
from tests.builders.amqp import declare_queue, forget
from tests.builders.proxy import TcpProxy

NONE = BrokerSettings()
SOON_S = 20.0


@pytest.fixture
def name(amqp_url: str) -> Iterator[str]:
    """A queue or exchange of this test alone."""
    name = f"test.{uuid.uuid4().hex[:8]}"
    yield name
    forget(amqp_url, [name])


@pytest.fixture
def proxy(amqp_url: str) -> Iterator[TcpProxy]:
    with TcpProxy(urlsplit(amqp_url).hostname or "", urlsplit(amqp_url).port or 0) as proxy:
        yield proxy


def through(proxy: TcpProxy, url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}").geturl()


def total(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


async def published(broker: Broker, queue: str, body: bytes) -> None:
    """Publish until confirmed, as every caller that must not lose a message does."""
    async with asyncio.timeout(SOON_S):
        while True:
            with suppress(UnavailableError):
                return await broker.publish("", queue, body)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not is_so():  # noqa: ASYNC110 - what is watched has no event
            await asyncio.sleep(0.05)


async def next_of(subscription: Subscription) -> Delivery:
    async with asyncio.timeout(SOON_S):
        return await subscription.get()


@pytest.mark.parametrize("harm", ["cut", "half_close"])
async def test_a_lost_connection_comes_back_with_all_that_was_declared(proxy: TcpProxy, amqp_url: str, name: str, harm: str) -> None:
    metrics = Metrics()
    bindings = ((name, "fanout", ""),)
    async with (
        open_amqp(through(proxy, amqp_url), NONE, name="test", metrics=metrics) as broker,
        broker.subscribe(QueueSpec(name=name, expires_s=30.0, bindings=bindings)) as shard,
        broker.subscribe(QueueSpec(name="", bindings=bindings)) as answers,
    ):
        await broker.publish(name, "", b"before")
        held, first_name = await next_of(shard), answers.name
        answers.ack(await next_of(answers))
        getattr(proxy, harm)()
        again = await next_of(shard)
        shard.ack(held)  # of the lost connection: changes nothing
        assert (again.body, again.redelivered) == (b"before", True)
        shard.ack(again)
        await until(lambda: answers.name != first_name)
        await published(broker, answers.name, b"to the new name")
        assert (await next_of(answers)).body == b"to the new name"
        await broker.publish(name, "", b"after")
        assert [(await next_of(each)).body for each in (shard, answers)] == [b"after", b"after"]
        assert total(metrics, "sightline_broker_connections_lost_total", connection="consume") == 1
        assert total(metrics, "sightline_broker_connected", connection="publish") == 1


async def test_every_confirmed_message_arrives_though_the_connection_is_cut_again_and_again(
    proxy: TcpProxy, amqp_url: str, name: str
) -> None:
    arrived: set[bytes] = set()
    quorum = QueueSpec(name=name, kind="quorum", prefetch=16)
    async with open_amqp(through(proxy, amqp_url), NONE, name="test") as broker, broker.subscribe(quorum) as work:

        async def consume() -> None:
            while len(arrived) < 200:
                delivery = await work.get()
                arrived.add(delivery.body)
                work.ack(delivery)

        async def publish(lane: int) -> None:
            for number in range(50):
                await published(broker, name, b"%d/%d" % (lane, number))

        async def harm() -> None:
            for _ in range(4):
                await asyncio.sleep(0.3)
                proxy.cut()

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for task in (consume(), harm(), *(publish(lane) for lane in range(4))):
                group.create_task(task)
    assert len(arrived) == 200


async def test_publishers_wait_for_a_connection_but_not_for_ever(proxy: TcpProxy, amqp_url: str, name: str) -> None:
    metrics = Metrics()
    async with open_amqp(through(proxy, amqp_url), NONE, name="test", metrics=metrics) as broker:
        proxy.refuse()
        before_s = asyncio.get_running_loop().time()
        with pytest.raises(UnavailableError, match=r"RabbitMQ at 127.0.0.1:\d+: no connection|not confirmed"):
            await broker.publish("", name, b"x", expires_s=0.3)
        assert asyncio.get_running_loop().time() - before_s < 8.0
        with pytest.raises(UnavailableError, match="no connection"):
            await broker.publish("", name, b"x", expires_s=0.3)
        assert total(metrics, "sightline_broker_publish_failures_total", cause="unreachable") >= 1
        waiting = asyncio.ensure_future(broker.publish("", name, b"x"))
        proxy.heal()
        async with asyncio.timeout(SOON_S):
            await waiting
        attempts = proxy.connections
    assert attempts < 20


async def test_a_slow_network_is_not_a_lost_one(proxy: TcpProxy, amqp_url: str, name: str) -> None:
    metrics = Metrics()
    async with (
        open_amqp(through(proxy, amqp_url), NONE, name="test", metrics=metrics) as broker,
        broker.subscribe(QueueSpec(name=name, expires_s=30.0)) as shard,
    ):
        proxy.delay(1.0)
        await broker.publish("", name, b"slow")
        assert (await next_of(shard)).body == b"slow"
        proxy.heal()
    assert total(metrics, "sightline_broker_connections_lost_total", connection="publish") == 0


async def test_a_silent_connection_is_noticed_within_15_seconds(proxy: TcpProxy, amqp_url: str, name: str) -> None:
    metrics = Metrics()
    async with (
        open_amqp(through(proxy, amqp_url), NONE, name="test", metrics=metrics) as broker,
        broker.subscribe(QueueSpec(name=name, expires_s=60.0)) as shard,
    ):
        proxy.delay(3600.0)
        before_s = asyncio.get_running_loop().time()
        with pytest.raises(UnavailableError):
            await broker.publish("", name, b"into the void")
        await until(lambda: total(metrics, "sightline_broker_connections_lost_total", connection="publish") == 1)
        assert asyncio.get_running_loop().time() - before_s < 20.0
        proxy.heal()
        proxy.cut()
        await published(broker, name, b"x")
        assert (await next_of(shard)).body == b"x"


async def test_a_deleted_queue_is_made_again_and_consumed(amqp_url: str, name: str) -> None:
    async with open_amqp(amqp_url, NONE, name="test") as broker, broker.subscribe(QueueSpec(name=name)) as shard:
        await asyncio.to_thread(forget, amqp_url, [name])
        async with asyncio.timeout(SOON_S):
            while not shard._arrived.qsize():  # type: ignore[attr-defined]  # until a message gets through: it may be unroutable at first
                await broker.publish("", name, b"x")
                await asyncio.sleep(0.05)
        assert (await next_of(shard)).body == b"x"


async def test_a_deleted_exchange_fails_what_is_in_flight_and_nothing_else(amqp_url: str, name: str) -> None:
    async with open_amqp(amqp_url, NONE, name="test") as broker, broker.subscribe(QueueSpec(name="")) as answers:
        async with broker.subscribe(QueueSpec(name="", bindings=((name, "fanout", ""),))) as bound:
            await broker.publish(name, "", b"x")
            assert (await next_of(bound)).body == b"x"
        await asyncio.to_thread(forget, amqp_url, [name])
        with pytest.raises(UnavailableError, match="no exchange"):
            await broker.publish(name, "", b"x")
        await broker.publish(name, "", b"x")  # now known to be absent: reaches no queue
        await broker.publish("", answers.name, b"y")
        assert (await next_of(answers)).body == b"y"


async def test_a_queue_that_changed_meanwhile_fails_its_subscription_in_one_line(proxy: TcpProxy, amqp_url: str, name: str) -> None:
    async with (
        open_amqp(through(proxy, amqp_url), NONE, name="test") as broker,
        broker.subscribe(QueueSpec(name=name)) as shard,
        broker.subscribe(QueueSpec(name="")) as answers,
    ):
        proxy.refuse()
        await asyncio.to_thread(forget, amqp_url, [name])
        await asyncio.to_thread(declare_queue, amqp_url, name, exclusive=False, durable=True)
        proxy.heal()
        with pytest.raises(UnavailableError, match=f"queue '{name}'.*inequivalent arg.*delete the queue") as refused:
            await next_of(shard)
        assert "\n" not in str(refused.value)
        async with asyncio.timeout(SOON_S):
            while not answers._arrived.qsize():  # type: ignore[attr-defined]
                await published(broker, answers.name, b"fine")
                await asyncio.sleep(0.05)


async def test_a_message_that_rabbitmq_refuses_is_an_error_for_its_publisher(amqp_url: str, name: str) -> None:
    metrics = Metrics()
    declare_queue(amqp_url, name, durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    async with open_amqp(amqp_url, NONE, name="test", metrics=metrics) as broker:
        outcomes = await asyncio.gather(*[broker.publish("", name, b"x") for _ in range(20)], return_exceptions=True)
        await broker.publish("", name, b"x", confirm=False)
        refused = [str(outcome) for outcome in outcomes if outcome is not None]
        assert set(refused) == {"RabbitMQ refused a message: a queue is full, or lost its leader"}
        assert await broker.depth(name) == 20 - len(refused) < 20
    assert total(metrics, "sightline_broker_publish_failures_total", cause="refused") == len(refused)


async def test_a_link_that_dies_ends_the_block(amqp_url: str) -> None:
    async def serve(_connection: AmqpConnection) -> None:
        raise ValueError("a fault of ours")

    link = AmqpLink(parse_amqp_url(amqp_url, NONE), name="test", purpose="consume", serve=serve, metrics=Metrics())
    await link.connect()
    with pytest.raises(ValueError, match="a fault of ours"):
        await link.keep()
    await link.close()


async def test_an_error_of_the_block_comes_out_as_it_is(amqp_url: str) -> None:
    with pytest.raises(KeyError):
        async with open_amqp(amqp_url, NONE, name="test"):
            raise KeyError("mine")


async def test_a_wrong_password_is_said_and_not_shown(amqp_url: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SettingsError, match="refuses the login of 'guest'") as refused:
        async with open_amqp(amqp_url, BrokerSettings(password=SecretStr("hush-hush")), name="test"):
            pass
    assert "hush" not in str(refused.value) + "".join(capfd.readouterr())


async def test_a_missing_virtual_host_is_said(amqp_url: str) -> None:
    with pytest.raises(SettingsError, match="no virtual host 'nowhere'"):
        async with open_amqp(urlsplit(amqp_url)._replace(path="/nowhere").geturl(), NONE, name="test"):
            pass


@asynccontextmanager
async def listening(answer: bytes | None, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that answers the first bytes of a client, hangs up (b""), or says nothing at all (None)."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await reader.read(8)
            if answer is None:
                await reader.read()
            writer.write(answer or b"")
            await writer.drain()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak AMQP 0-9-1"),
        (b"AMQP\x00\x01\x00\x00", "does not speak AMQP 0-9-1"),
        (b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x0a\xce", "can't connect"),
        (b"\x01\x00\x00\x00\x00\x00\x04\xff\xff\xff\xff\xce", "can't connect"),
        (b"", "can't connect"),
    ],
)
async def test_a_server_that_is_no_rabbitmq(answer: bytes, text: str) -> None:
    async with listening(answer) as port:
        with pytest.raises(UnavailableError, match=text) as refused:
            async with open_amqp(f"amqp://u:secret@127.0.0.1:{port}", NONE, name="test"):
                pass
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async with listening(None) as port:
        with pytest.raises(UnavailableError, match="does not answer within 10 s"):
            async with open_amqp(f"amqp://127.0.0.1:{port}", NONE, name="test"):
                pass


async def test_nobody_listens() -> None:
    with TcpProxy("127.0.0.1", 9) as proxy:
        port = proxy.port
    with pytest.raises(UnavailableError, match=f"RabbitMQ at 127.0.0.1:{port}: can't connect: .*is it running"):
        async with open_amqp(f"amqp://127.0.0.1:{port}", NONE, name="test"):
            pass


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "broker")])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "broker.pem"
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(built.public_bytes(serialization.Encoding.PEM) + private)
    return path


@asynccontextmanager
async def tls_front(amqp_url: str, certificate: Path) -> AsyncIterator[str]:
    """The same RabbitMQ behind TLS that asks for a client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    target = urlsplit(amqp_url)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, onward = await asyncio.open_connection(target.hostname, target.port)
        await asyncio.gather(pump(reader, onward), pump(back, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    yield f"amqps://{target.username}:{target.password}@127.0.0.1:{port}"
    server.close()


async def test_tls_with_both_sides_known(amqp_url: str, certificate: Path) -> None:
    settings = BrokerSettings(ca_file=certificate, cert_file=certificate)
    async with (
        tls_front(amqp_url, certificate) as url,
        open_amqp(url, settings, name="test") as broker,
        broker.subscribe(QueueSpec(name="")) as answers,
    ):
        for body in (b"x", bytes(400_000)):
            await broker.publish("", answers.name, body)
            assert (await next_of(answers)).body == body


async def test_tls_with_an_unknown_server(amqp_url: str, certificate: Path) -> None:
    async with tls_front(amqp_url, certificate) as url:
        with pytest.raises(UnavailableError, match="self-signed certificate"):
            async with open_amqp(url, NONE, name="test"):
                pass
