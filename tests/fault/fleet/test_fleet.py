"""The scripted scene on a real fleet under each fault: the same people in the same visits, no alert twice, every frame accounted for."""

import time
from collections.abc import Callable, Iterator

import pytest

from cli.services.fleet import Plan
from core.topology import DEAD_PREFIX, frames_topic
from tests.builders.poison import CAMERA as POISONED
from tests.builders.poison import poison_frames, poison_probes
from tests.builders.stage import Event, Showing, Stage

FAULT_S = 10.0
"""Into the scene: somebody stands before every camera."""
SUPERVISED_S = 1.0
"""A supervisor starts a dead process again after this long."""

pytestmark = pytest.mark.timeout(600)
full = pytest.mark.full
Play = Callable[..., Showing]


@pytest.fixture
def play(stage: Stage, request: pytest.FixtureRequest) -> Play:
    """Play the scene with events; hold what came of it against the script, and print how soon the fleet recovered."""

    def run(*events: Event) -> Showing:
        showing = stage.play(*events)
        assert showing.found == stage.expected
        known = {(camera, who) for camera, who, _ in stage.expected if who != "stranger"}
        assert showing.alerts == dict.fromkeys(known, 1)
        assert showing.account.balanced, showing.account
        assert showing.account.total("in_flight") == 0
        assert showing.account.total("lost") == 0
        what = request.node.name.removeprefix("test_fleet_").replace("_", " ")
        recovered = "never followed again" if showing.recovered_s is None else f"followed again after {showing.recovered_s:.1f} s"
        frames = f"{showing.account.total('published')} frames balance {showing.drained_s:.1f} s after the scene"
        told = f"{frames}, {len(showing.seen)} sightings" if not events else f"{recovered}; {frames}, {len(showing.seen)} sightings"
        request.node.user_properties.append(("told", f"{what}: {told}"))
        return showing

    return run


@pytest.fixture(scope="module")
def proxied(stage: Stage) -> Iterator[Stage]:
    """The stage with a proxy in each connection of the fleet to a server."""
    with stage.behind_proxies():
        yield stage


def kill_and_restart(stage: Stage, name: str) -> Event:
    """A process dies without a word and is started again by its supervisor."""

    def act() -> None:
        stage.fleet.members[name].kill()
        time.sleep(SUPERVISED_S)
        stage.fleet.members[name].start()

    return FAULT_S, act


def test_fleet_undisturbed(play: Play) -> None:
    play()


def test_fleet_recognizer_killed(stage: Stage, play: Play) -> None:
    play(kill_and_restart(stage, "recognize-north-0"))
    assert stage.fleet.members["recognize-north-0"].starts > 1


def test_fleet_sightings_service_killed(stage: Stage, play: Play) -> None:
    play(kill_and_restart(stage, "sightings-0"))


@full
def test_fleet_matcher_killed(stage: Stage, play: Play) -> None:
    play(kill_and_restart(stage, "match-0of2-0"))


@full
def test_fleet_ingester_killed_and_taken_over(stage: Stage, play: Play) -> None:
    play((FAULT_S, stage.fleet.members["ingest-0"].kill))


@full
def test_fleet_kafka_stopped_for_20_s(stage: Stage, play: Play) -> None:
    play((FAULT_S, lambda: stage.servers.stop("kafka")), (FAULT_S + 20, lambda: stage.servers.start("kafka")))


@full
def test_fleet_rabbitmq_restarted(stage: Stage, play: Play) -> None:
    play((FAULT_S, lambda: stage.servers.stop("rabbitmq")), (FAULT_S, lambda: stage.servers.start("rabbitmq")))


@full
def test_fleet_postgresql_restarted_then_killed(stage: Stage, play: Play) -> None:
    play(
        (FAULT_S, lambda: stage.servers.stop("postgres")),
        (FAULT_S + 3, lambda: stage.servers.start("postgres")),
        (FAULT_S + 14, lambda: stage.servers.stop("postgres", kill=True)),
        (FAULT_S + 15, lambda: stage.servers.start("postgres")),
    )


@full
def test_fleet_rebalanced_by_adding_and_removing_recognizers(stage: Stage, play: Play) -> None:
    def add() -> None:
        for region in ("north", "south"):
            stage.fleet.add(f"recognize-{region}-1", "recognize", "--region", region)

    def remove() -> None:
        for region in ("north", "south"):
            stage.fleet.members[f"recognize-{region}-1"].await_ready()
            stage.fleet.members[f"recognize-{region}-0"].terminate()

    play((FAULT_S, add), (FAULT_S + 12, remove))


@full
def test_fleet_shards_changed_from_2_to_3(stage: Stage, play: Play) -> None:
    old = stage.fleet.plan

    def grow() -> None:
        stage.fleet.plan = Plan(shards=3)
        for name, words in stage.fleet.planned().items():
            if name.startswith("match-"):
                stage.fleet.add(name, *words)

    def shrink() -> None:
        for member in stage.fleet.of_kind("match"):
            member.await_ready()
        for shard in range(2):
            stage.fleet.remove(f"match-{shard}of2-0")

    try:
        play((FAULT_S, grow), (FAULT_S + 4, shrink))
    finally:
        stage.fleet.plan = old


@full
def test_fleet_poison_frame_header_and_probe(stage: Stage, play: Play) -> None:
    def poison() -> None:
        poison_frames(stage.servers.url("kafka"), "north")
        poison_probes(stage.servers.url("rabbitmq"))

    showing = play((FAULT_S, poison))
    accounts = {camera.camera: camera for camera in showing.account.cameras}
    assert accounts[POISONED].dead_lettered == accounts[POISONED].published > 0
    dead = {line["topic"]: line["records"] for line in stage.fleet.run("topics", "list")}
    assert dead[DEAD_PREFIX + frames_topic("north")] == 2


@full
def test_fleet_connections_cut_and_half_closed(proxied: Stage, play: Play) -> None:
    faults = [(name, act) for act in ("cut", "half_close") for name in ("kafka", "rabbitmq", "postgres")]
    play(*((FAULT_S + 3 * number, getattr(proxied.proxies[name], act)) for number, (name, act) in enumerate(faults)))


@full
def test_fleet_connections_delayed(proxied: Stage, play: Play) -> None:
    slow = [(FAULT_S + 4 * number, lambda proxy=proxy: proxy.delay(0.3)) for number, proxy in enumerate(proxied.proxies.values())]
    heal = [(FAULT_S + 16, proxy.heal) for proxy in proxied.proxies.values()]
    play(*slow, *heal)
