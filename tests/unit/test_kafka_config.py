"""What librdkafka is told, and what is refused before it is told anything."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from core.adapters.kafka_config import bootstrap_servers, client_config, consumer_config, producer_config, subscription
from core.adapters.kafka_plan import Retention, fleet_topics, partitions_for
from core.adapters.kafka_report import Sparse
from core.errors import SettingsError
from core.settings import KafkaSettings


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("kafka://localhost", "localhost:9092"),
        ("kafka://a:1,b:2/", "a:1,b:2"),
        ("kafka://kafka-0.kafka.svc:9092, kafka-1.kafka.svc:9092", "kafka-0.kafka.svc:9092,kafka-1.kafka.svc:9092"),
        ("kafka://[::1]:9092", "[::1]:9092"),
    ],
)
def test_addresses(url: str, servers: str) -> None:
    assert bootstrap_servers(url) == servers


@pytest.mark.parametrize("url", ["kafka://", "kafka://a:0", "kafka://a:99999", "kafka://a:b", "kafka://a,,b", "http://a:1", "kafka://a/b"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(SettingsError, match="kafka://host:port"):
        bootstrap_servers(url)


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(SettingsError, match=r"kafka\.password") as caught:
        bootstrap_servers("kafka://me:hunter2@host:9092")
    assert "hunter2" not in str(caught.value)


def test_plain_text_needs_nothing() -> None:
    config = client_config("kafka://a:1", KafkaSettings())
    assert config["security.protocol"] == "PLAINTEXT"
    assert not [key for key in config if key.startswith(("ssl.", "sasl."))]
    assert config["allow.auto.create.topics"] is False


def test_tls_with_client_certificate_and_scram(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem")}
    for path in files.values():
        path.write_text("x")
    settings = KafkaSettings(
        tls=True,
        ca_file=files["ca.pem"],
        cert_file=files["cert.pem"],
        key_file=files["key.pem"],
        sasl_mechanism="SCRAM-SHA-512",
        username="sightline",
        password=SecretStr("hunter2"),
    )
    config = client_config("kafka://a:1", settings)
    security = {key: value for key, value in config.items() if key.startswith(("security.", "ssl.", "sasl."))}
    assert security == {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(files["ca.pem"]),
        "ssl.certificate.location": str(files["cert.pem"]),
        "ssl.key.location": str(files["key.pem"]),
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "sightline",
        "sasl.password": "hunter2",
    }


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    settings = KafkaSettings(tls=True, ca_file=tmp_path / "absent.pem", cert_file=tmp_path, sasl_mechanism="PLAIN", username="me")
    with pytest.raises(SettingsError) as caught:
        client_config("kafka://nobody:port", settings)
    for part in (
        "'nobody:port' is not host:port",
        "absent.pem is not a file",
        f"kafka.cert_file: {tmp_path} is not a file",
        "kafka.cert_file and kafka.key_file belong together",
        "PLAIN needs kafka.username and kafka.password",
    ):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (KafkaSettings(ca_file=Path("x")), "kafka.tls is off"),
        (KafkaSettings(username="me"), "kafka.sasl_mechanism is not"),
    ],
)
def test_what_would_be_ignored_is_refused(settings: KafkaSettings, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        client_config("kafka://a", settings)


def test_an_acknowledgement_means_all_replicas_and_a_commit_is_ours_to_make() -> None:
    base = client_config("kafka://a", KafkaSettings())
    producer, consumer = producer_config(base), consumer_config(base, "g")
    assert (producer["acks"], producer["enable.idempotence"], producer["compression.type"]) == ("all", True, "none")
    assert consumer["partition.assignment.strategy"] == "cooperative-sticky"
    assert (consumer["enable.auto.commit"], consumer["enable.auto.offset.store"]) == (False, False)
    assert consumer["auto.offset.reset"] == "earliest"


def test_patterns_are_anchored() -> None:
    assert subscription(("frames.*", "sightings")) == [r"^frames\..*", "sightings"]


@pytest.mark.parametrize(("cameras", "partitions"), [(0, 12), (1, 12), (96, 12), (97, 24), (1000, 132), (10_000, 768)])
def test_partitions_follow_the_cameras(cameras: int, partitions: int) -> None:
    assert partitions_for(cameras) == partitions


def test_a_fleet_has_frames_sightings_and_their_dead_letters() -> None:
    specs = {spec.name: spec for spec in fleet_topics({"north": 100, "south": 3}, replication=3, retention=Retention(frames=2))}
    assert {name: spec.partitions for name, spec in specs.items()} == {
        "frames.north": 24,
        "frames.south": 12,
        "sightings": 12,
        "dead.frames.north": 3,
        "dead.frames.south": 3,
        "dead.sightings": 3,
    }
    frames = dict(specs["frames.north"].config)
    assert (frames["retention.ms"], frames["segment.ms"], frames["min.insync.replicas"]) == ("7200000", "900000", "2")
    assert specs["frames.north"].enforced == {"retention.ms", "segment.ms", "max.message.bytes"}  # it was asked for
    assert specs["sightings"].enforced == {"max.message.bytes"}
    assert int(dict(specs["dead.frames.north"].config)["max.message.bytes"]) > int(frames["max.message.bytes"])


def test_the_same_complaint_is_made_once_in_a_while_with_a_count() -> None:
    sparse = Sparse(30.0)
    assert [sparse.due("x", now) for now in (0.0, 1.0, 2.0, 31.0, 32.0)] == [0, None, None, 2, None]
    assert sparse.due("y", 32.0) == 0
    sparse.again("x")
    assert sparse.due("x", 33.0) == 0
