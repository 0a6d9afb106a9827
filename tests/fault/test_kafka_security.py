"""TLS and passwords on a real Kafka: what is right works, what is wrong is told in one line without a secret."""

import io
import time
from collections.abc import Iterator

import pytest
import structlog
from pydantic import SecretStr

from core.adapters.kafka_log import open_kafka_log
from core.adapters.kafka_plan import TopicSpec
from core.adapters.kafka_topics import TopicAdmin
from core.errors import UnavailableError
from core.settings import KafkaSettings
from tests.builders.kafka import collect, values
from tests.builders.secure_kafka import PASSWORD, USER, SecureKafka, open_secure_kafka


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    with open_secure_kafka(tmp_path_factory.mktemp("secure")) as secure:
        yield secure


def with_certificate(secure: SecureKafka) -> tuple[str, KafkaSettings]:
    return secure.ssl_url, KafkaSettings(tls=True, ca_file=secure.ca_file, cert_file=secure.cert_file, key_file=secure.key_file)


def with_password(secure: SecureKafka, mechanism: str, password: str = PASSWORD) -> tuple[str, KafkaSettings]:
    secret = SecretStr(password)
    return secure.sasl_url, KafkaSettings.model_validate(
        {"tls": True, "ca_file": secure.ca_file, "sasl_mechanism": mechanism, "username": USER, "password": secret}
    )


@pytest.mark.parametrize("way", ["certificate", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_records_travel(secure: SecureKafka, way: str) -> None:
    url, settings = with_certificate(secure) if way == "certificate" else with_password(secure, way)
    topic = f"t.{way}"
    TopicAdmin(url, settings).ensure([TopicSpec(name=topic, partitions=1, replication=1, config=())])
    async with open_kafka_log(url, settings) as log, log.consumer([topic], f"g.{way}") as consumer:
        await log.publish(topic, "k", b"safe")
        assert values(await collect(consumer, 1)) == [b"safe"]


async def refused(url: str, settings: KafkaSettings) -> str:
    """Return what a publisher is told, and all that was logged."""
    heard = io.StringIO()
    with structlog.testing.capture_logs() as lines:
        async with open_kafka_log(url, settings) as log:
            began_s = time.monotonic()
            with pytest.raises(UnavailableError) as caught:
                await log.publish("t", "k", b"v")
            assert time.monotonic() - began_s < 12
            check = await log.check()
    heard.write(f"{caught.value} {check} {lines}")
    assert "\n" not in str(caught.value)
    return heard.getvalue()


async def test_a_wrong_password(secure: SecureKafka) -> None:
    told = await refused(*with_password(secure, "SCRAM-SHA-512", "hunter2"))
    assert "refuses us" in told
    assert "uthentication failed" in told
    assert "hunter2" not in told


async def test_an_authority_that_we_do_not_trust(secure: SecureKafka) -> None:
    settings = KafkaSettings.model_validate({"tls": True, "sasl_mechanism": "PLAIN", "username": USER, "password": PASSWORD})
    told = await refused(secure.sasl_url, settings)
    assert "certificate verify failed" in told or "verify" in told
    assert PASSWORD not in told


async def test_no_certificate_where_one_is_wanted(secure: SecureKafka) -> None:
    told = await refused(secure.ssl_url, KafkaSettings(tls=True, ca_file=secure.ca_file))
    assert "does not answer" in told or "refuses us" in told
