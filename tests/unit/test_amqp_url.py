"""The broker's URL: what it means, what is refused, and that nothing secret is ever quoted."""

import random
from pathlib import Path

import pytest
from pydantic import SecretStr

from core.adapters.amqp_link import FIRST_PAUSE_S, LONGEST_PAUSE_S, pause_s
from core.adapters.amqp_url import parse_amqp_url
from core.errors import SettingsError
from core.settings import BrokerSettings

NONE = BrokerSettings()


def test_all_parts() -> None:
    address = parse_amqp_url("amqp://sight%40line:p%2Fw@mq.example:5679/prod%2Feu", NONE)
    assert (address.host, address.port, address.vhost) == ("mq.example", 5679, "prod/eu")
    assert (address.user, address.password, address.tls) == ("sight@line", "p/w", None)


@pytest.mark.parametrize("url", ["amqp://mq", "amqp://mq/", "amqp://mq/%2F", "amqp://guest:guest@mq:5672"])
def test_defaults_are_rabbitmqs(url: str) -> None:
    address = parse_amqp_url(url, NONE)
    assert (address.host, address.port, address.vhost, address.user, address.password) == ("mq", 5672, "/", "guest", "guest")


def test_the_password_of_the_settings_wins() -> None:
    address = parse_amqp_url("amqp://sightline:old@mq", BrokerSettings(password=SecretStr("n:ew/")))
    assert address.password == "n:ew/"


def test_tls_checks_the_server_by_default() -> None:
    address = parse_amqp_url("amqps://mq", NONE)
    assert address.port == 5671
    assert address.tls is not None
    assert address.tls.check_hostname


@pytest.mark.parametrize(
    ("url", "settings", "text"),
    [
        ("http://u:secret@mq", NONE, "broker_url: expected amqp://"),
        ("amqp://u:secret@", NONE, "broker_url: expected amqp://"),
        ("amqp://u:secret@mq:secret", NONE, "broker_url: the port is no number"),
        ("amqp://u:secret@mq:99999", NONE, "broker_url: the port is no number"),
        ("amqp://u:secret@[mq", NONE, "broker_url: it can't be read"),
        ("amqp://u:secret@mq?heartbeat=0", NONE, "options after"),
        ("amqp://u:secret@mq", BrokerSettings(ca_file=Path("ca.pem")), "broker.ca_file: needs a broker_url that begins with amqps"),
        ("amqps://u:secret@mq", BrokerSettings(ca_file=Path("no/ca.pem")), "broker.ca_file: no/ca.pem: No such file"),
        ("amqps://u:secret@mq", BrokerSettings(cert_file=Path("no/c.pem")), "broker.cert_file: no/c.pem: No such file"),
        ("amqps://u:secret@mq", BrokerSettings(key_file=Path("k.pem")), "broker.key_file: needs broker.cert_file"),
    ],
)
def test_what_is_refused_and_how(url: str, settings: BrokerSettings, text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_amqp_url(url, settings)
    assert text in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_nothing_secret_in_any_text_of_an_address() -> None:
    address = parse_amqp_url("amqp://u:secret@mq", NONE)
    assert "secret" not in f"{address} {address!r} {address.parameters('x')!r} {address.parameters('x').credentials!r}"


def test_pauses_grow_and_are_scattered_and_capped() -> None:
    rng = random.Random(1)
    firsts = [pause_s(0, rng.random()) for _ in range(100)]
    assert FIRST_PAUSE_S / 2 <= min(firsts) < max(firsts) <= FIRST_PAUSE_S
    assert pause_s(3, 1.0) == 8 * FIRST_PAUSE_S
    assert pause_s(1_000_000, 1.0) == LONGEST_PAUSE_S
