"""Local servers: started once, found again, killed, restarted on the same port."""

import os
import socket
from pathlib import Path

import psutil
import pytest

from cli.services.choose import check_url
from cli.services.local import LocalServers
from cli.services.model import Kind
from core.errors import UnavailableError


@pytest.fixture
def servers(tmp_path: Path):
    with LocalServers(tmp_path / "services") as local:
        yield local


def test_services_are_ready_and_started_once(servers: LocalServers) -> None:
    servers.start("postgres")
    before = servers.pids("postgres")
    servers.start("postgres")
    assert servers.pids("postgres") == before
    assert servers.status() == {"postgres": ""}
    assert check_url("postgres", servers.url("postgres")) == servers.version("postgres")
    assert servers.env() == {"SIGHTLINE_DATABASE_URL": servers.url("postgres")}


@pytest.mark.parametrize("kind", ["postgres", "kafka"])
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_services_killed_server_comes_back_on_its_port(servers: LocalServers, kind: Kind) -> None:
    servers.start(kind)
    url, processes = servers.url(kind), [psutil.Process(pid) for pid in servers.pids(kind)]
    family = [member for process in processes for member in (process, *process.children(recursive=True))]
    servers.stop(kind, kill=True)
    assert servers.status() == {kind: "stopped"}
    assert not [member for member in family if member.is_running() and member.status() != psutil.STATUS_ZOMBIE]
    with pytest.raises(UnavailableError, match=r"nothing answers at|does not answer"):
        check_url(kind, url)
    servers.start(kind)
    assert servers.url(kind) == url
    check_url(kind, url)


def test_services_rabbitmq_answers_its_handshake(amqp_url: str) -> None:
    assert check_url("rabbitmq", amqp_url)


def test_services_another_command_finds_and_stops_what_runs(servers: LocalServers, tmp_path: Path) -> None:
    servers.start("postgres")
    other = LocalServers(tmp_path / "services")
    assert other.status() == {"postgres": ""}
    other.stop()
    assert servers.status() == {"postgres": "stopped"}


def test_services_never_end_a_process_that_took_over_a_number(servers: LocalServers, tmp_path: Path) -> None:
    servers.start("postgres")
    state = tmp_path / "services" / "postgres.json"
    text = state.read_text()
    real = servers.pids("postgres")[0]
    state.write_text(text.replace(f'"pid":{real}', f'"pid":{os.getpid()}'))  # our own number, with another start time
    assert servers.pids("postgres") == []
    servers.stop("postgres", kill=True)  # would be the end of this test
    state.write_text(text)


def test_services_say_in_one_line_why_a_server_does_not_start(servers: LocalServers, tmp_path: Path) -> None:
    servers.start("postgres")
    servers.stop()
    with socket.create_server(("127.0.0.1", servers.port("postgres"))):
        problem = servers.try_start("postgres")["postgres"]
    assert "\n" not in problem
    assert "Address already in use" in problem or "could not create any TCP/IP sockets" in problem
    assert "server.log" in problem


def test_services_prometheus_wants_a_configuration(servers: LocalServers) -> None:
    assert servers.try_start(["prometheus"]) == {"prometheus": "it needs a configuration to scrape by: --scrape FILE"}


def test_services_prometheus_runs_with_one(tmp_path: Path) -> None:
    config = tmp_path / "prometheus.yml"
    config.write_text("global: {scrape_interval: 1s}\nscrape_configs: []\n")
    with LocalServers(tmp_path / "services", scrape=config) as servers:
        servers.start("prometheus")
        assert servers.version("prometheus").startswith("2.")
