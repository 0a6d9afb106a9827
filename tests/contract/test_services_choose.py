"""Where a server comes from: a URL, else a container, else a local process; with a stand-in for the container engine."""

import json
from pathlib import Path

import pytest

from cli.services.choose import server_status, start_servers
from cli.services.compose import compose_file, compose_running, compose_url, engine_runs
from cli.services.local import LocalServers
from core.settings import Settings

PROJECT = {
    "services": {
        "kafka": {"environment": {}, "ports": [{"target": 19092, "published": "19092"}]},
        "rabbitmq": {
            "environment": {"RABBITMQ_DEFAULT_USER": "me", "RABBITMQ_DEFAULT_PASS": "a/b"},
            "ports": [{"target": 5672, "published": "5672"}, {"target": 15672, "published": "15672"}],
        },
        "postgres": {
            "environment": {"POSTGRES_USER": "me", "POSTGRES_PASSWORD": "secret", "POSTGRES_DB": "db"},
            "ports": [{"target": 5432, "published": "5433"}],
        },
    }
}


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``docker`` that answers what compose would, writes down what it was told, and starts nothing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "docker"
    (tmp_path / "project.json").write_text(json.dumps(PROJECT))
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/told\ncase "$*" in\n*config*) cat {tmp_path}/project.json;;\n'
        f'*"ps --services"*) echo kafka;;\nesac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return tmp_path / "told"


def test_choose_container_addresses_come_from_the_compose_file(docker: Path) -> None:
    file = compose_file()
    assert file is not None
    assert engine_runs()
    assert compose_url(file, "kafka") == "kafka://127.0.0.1:19092"
    assert compose_url(file, "rabbitmq") == "amqp://me:a%2Fb@127.0.0.1:5672/%2F"
    assert compose_url(file, "postgres") == "postgresql://me:secret@127.0.0.1:5433/db"
    assert compose_running(file) == {"kafka"}


def test_choose_containers_before_local_processes(docker: Path, tmp_path: Path) -> None:
    found = start_servers(Settings(), LocalServers(tmp_path / "services"), ["kafka", "rabbitmq"])
    assert {server.how for server in found} == {"container"}
    assert "up --detach --wait kafka rabbitmq" in docker.read_text()


def test_choose_a_given_url_before_all_and_say_when_nothing_is_there(docker: Path, tmp_path: Path) -> None:
    settings = Settings(log_url="kafka://127.0.0.1:9")
    (found,) = start_servers(settings, LocalServers(tmp_path / "services"), ["kafka"])
    assert (found.how, found.url) == ("settings", "kafka://127.0.0.1:9")
    assert found.problem == "nothing answers at 127.0.0.1:9: Connection refused"
    assert " up " not in docker.read_text() if docker.exists() else True


def test_choose_a_given_url_that_answers(postgres_url: str, tmp_path: Path) -> None:
    (found,) = start_servers(Settings(database_url=postgres_url), LocalServers(tmp_path / "services"), ["postgres"])
    assert (found.how, found.problem) == ("settings", "")
    assert found.version.startswith("1")


def test_choose_what_runs_as_a_process_goes_on_as_one(docker: Path, tmp_path: Path) -> None:
    with LocalServers(tmp_path / "services") as servers:
        servers.start("postgres")
        (found,) = start_servers(Settings(), servers, ["postgres"])
        assert (found.how, found.url) == ("local process", servers.url("postgres"))
        (status,) = server_status(Settings(), servers, ["postgres"])
        assert (status.how, status.problem) == ("local process", "")
