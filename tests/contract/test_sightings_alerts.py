"""Alerts against a real PostgreSQL: exactly one a watchlist and episode, whatever the order of arrival."""

import asyncio
import random
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import ConflictError, NotFoundError, UsageError
from core.ports import Database
from sightings.alerts import AlertFilter, AlertStore
from sightings.forgetting import forget_subject
from sightings.record import Arrival, Filter, StoredAlert
from sightings.store import SightingStore
from sightings.watchlists import WatchlistStore
from tests.builders.sightings import ALICE, BOB, NOW_S, arrival

GAP = timedelta(seconds=30)


@pytest.fixture
def store(db: Database) -> SightingStore:
    return SightingStore(db, episode_gap=GAP)


@pytest.fixture
async def lists(db: Database) -> WatchlistStore:
    """Return the watchlists, with one called ``wanted`` that holds Alice; Bob is enrolled too."""
    for subject_id, name in ((ALICE, "Alice"), (BOB, "Bob")):
        await db.execute("insert into subject (subject_id, collection, name) values ($1, 'default', $2)", uuid.UUID(subject_id), name)
    store = WatchlistStore(db)
    await store.add("wanted", collection="default")
    assert await store.put("wanted", ["Alice"]) == 1
    return store


async def arrive(store: SightingStore, *arrivals: Arrival) -> list[StoredAlert]:
    return (await store.record(arrivals, now_s=NOW_S)).alerts


async def alerts(db: Database) -> list[StoredAlert]:
    """Return all alerts, by what they cover."""
    return sorted((await AlertStore(db).query(limit=500))[0], key=lambda alert: (alert.camera, alert.first_s))


def spans(found: Sequence[StoredAlert]) -> list[tuple[float, float]]:
    return [(alert.first_s - NOW_S, alert.last_s - NOW_S) for alert in found]


@pytest.mark.usefixtures("lists")
async def test_a_listed_subject_raises_an_alert_once_however_often_it_is_told(store: SightingStore, db: Database) -> None:
    (alert,) = await arrive(store, arrival("a", subject="alice"), arrival("b", subject="bob"), arrival("c"))
    assert (alert.watchlist, alert.camera, alert.subject, alert.score, alert.state) == ("wanted", "door", "Alice", 0.73, "new")
    assert await arrive(store, arrival("a", subject="alice")) == []
    assert await arrive(store, arrival("a", subject="alice", last_s=9, revision=2, closed=True)) == []
    assert await arrive(store, arrival("d", subject="alice", first_s=20)) == []  # the same episode
    assert spans(await alerts(db)) == [(0, 25)]
    (sighting,) = (await store.query(Filter(subject=ALICE), limit=1))[0]
    assert (await alerts(db))[0].episode_id == sighting.episode_id


@pytest.mark.usefixtures("lists")
async def test_another_episode_camera_or_watchlist_is_another_alert(store: SightingStore, lists: WatchlistStore) -> None:
    await lists.add("staff", collection="default")
    await lists.put("staff", [ALICE, "Bob"])
    assert [a.watchlist for a in await arrive(store, arrival("a", subject="alice"))] == ["staff", "wanted"]
    assert len(await arrive(store, arrival("b", subject="alice", camera="hall"))) == 2
    assert len(await arrive(store, arrival("c", subject="alice", first_s=100))) == 2
    assert [a.watchlist for a in await arrive(store, arrival("d", subject="bob"))] == ["staff"]


@pytest.mark.usefixtures("lists")
async def test_an_earlier_sighting_that_arrives_late_raises_no_second_alert(store: SightingStore, db: Database) -> None:
    (first,) = await arrive(store, arrival("b", subject="alice", first_s=30))
    assert await arrive(store, arrival("a", subject="alice", first_s=0)) == []  # it names the episode from now on
    (now,) = await alerts(db)
    assert (now.alert_id, spans([now])) == (first.alert_id, [(0, 35)])
    assert now.episode_id not in (None, first.episode_id)


@pytest.mark.usefixtures("lists")
async def test_two_episodes_that_turn_out_to_be_one_keep_their_alerts_and_raise_no_third(store: SightingStore, db: Database) -> None:
    assert len(await arrive(store, arrival("a", first_s=0, last_s=10, subject="alice"))) == 1
    assert len(await arrive(store, arrival("c", first_s=70, last_s=80, subject="alice"))) == 1
    assert await arrive(store, arrival("b", first_s=35, last_s=45, subject="alice")) == []
    both = await alerts(db)
    assert spans(both) == [(0, 80), (0, 80)]
    assert len({alert.episode_id for alert in both}) == 1


@pytest.mark.usefixtures("lists")
async def test_an_alert_stays_without_episode_when_the_identification_is_taken_back(store: SightingStore, db: Database) -> None:
    await arrive(store, arrival("a", subject="alice"))
    assert await arrive(store, arrival("a", subject="bob", revision=2)) == []
    (alert,) = await alerts(db)
    assert (alert.subject, alert.episode_id) == ("Alice", None)
    assert await arrive(store, arrival("a", subject="alice", revision=3)) == []  # told already
    assert (await alerts(db))[0].episode_id is not None
    assert len(await arrive(store, arrival("z", subject="alice", first_s=300))) == 1


@pytest.mark.usefixtures("lists")
async def test_an_episode_that_falls_apart_raises_nothing_more(store: SightingStore, db: Database) -> None:
    assert len(await arrive(store, *(arrival(t, first_s=s, subject="alice") for t, s in (("a", 0), ("b", 30), ("c", 60))))) == 1
    assert await arrive(store, arrival("b", first_s=30, subject="bob", revision=2)) == []
    assert spans(await alerts(db)) == [(0, 65)]


async def test_who_is_put_on_a_watchlist_while_seen_is_told_with_the_next_revision(store: SightingStore, lists: WatchlistStore) -> None:
    await arrive(store, arrival("b", subject="bob"))
    await lists.put("wanted", ["Bob"])
    assert len(await arrive(store, arrival("b", subject="bob", last_s=8, revision=2))) == 1
    assert await lists.take("wanted", ["Bob"]) == 1
    assert await arrive(store, arrival("e", subject="bob", first_s=200)) == []


async def test_a_watchlist_that_is_off_or_gone_raises_nothing_and_its_alerts_stay(
    store: SightingStore, lists: WatchlistStore, db: Database
) -> None:
    await arrive(store, arrival("a", subject="alice"))
    await lists.set_enabled("wanted", False)
    assert await arrive(store, arrival("b", subject="alice", first_s=100)) == []
    await lists.set_enabled("wanted", True)
    assert len(await arrive(store, arrival("b", subject="alice", first_s=100, revision=2))) == 1
    await lists.remove("wanted")
    assert await arrive(store, arrival("c", subject="alice", first_s=200)) == []
    assert [alert.watchlist for alert in await alerts(db)] == ["wanted", "wanted"]


@pytest.mark.usefixtures("lists")
async def test_erasure_takes_the_person_out_of_alerts_and_watchlists(store: SightingStore, lists: WatchlistStore, db: Database) -> None:
    await arrive(store, arrival("a", subject="alice"))
    await forget_subject(db, ALICE)
    (alert,) = await alerts(db)
    assert (alert.subject, alert.subject_id, alert.sighting_id, alert.score, alert.episode_id) == (None,) * 5
    assert (alert.camera, alert.watchlist) == ("door", "wanted")
    assert await lists.members("wanted") == []
    assert await arrive(store, arrival("late", subject="alice")) == []


@pytest.mark.usefixtures("lists")
async def test_other_processes_hear_of_an_alert_when_it_is_stored(store: SightingStore, db: Database) -> None:
    async with db.listen("event") as notes:
        (alert,) = await arrive(store, arrival("a", subject="alice"))
        await asyncio.wait_for(anext(notes), 10)
    (event,) = await db.fetch("select * from event where kind = 'alert'")
    told = (event["kind"], event["key"], event["revision"], event["camera"], event["collection"], event["watchlist"])
    assert told == ("alert", alert.alert_id, 1, "door", "default", "wanted")


@pytest.mark.usefixtures("lists")
async def test_alerts_come_in_pages_newest_first(store: SightingStore, db: Database) -> None:
    for n in range(5):
        await arrive(store, arrival(f"t{n}", subject="alice", first_s=100 * n))
    reader = AlertStore(db)
    first, cursor = await reader.query(limit=3)
    rest, end = await reader.query(AlertFilter(watchlist="wanted", since_s=0), limit=3, cursor=cursor)
    assert end is None
    assert [alert.first_s - NOW_S for alert in [*first, *rest]] == [400, 300, 200, 100, 0]
    assert await reader.query(AlertFilter(watchlist="other"), limit=3) == ([], None)
    with pytest.raises(UsageError, match="since: -1 is not a Unix time"):
        AlertFilter(since_s=-1)


async def test_watchlists_are_kept_and_their_mistakes_named(lists: WatchlistStore) -> None:
    (only,) = await lists.watchlists()
    assert (only.name, only.collection, only.enabled, only.subjects) == ("wanted", "default", True, 1)
    assert [member.subject for member in await lists.members("wanted")] == ["Alice"]
    assert await lists.put("wanted", ["Alice", BOB]) == 1
    with pytest.raises(ConflictError, match="watchlist 'wanted': there is one of this name"):
        await lists.add("wanted", collection="default")
    with pytest.raises(UsageError, match="watchlist 'a b': expected 1 to 64"):
        await lists.add("a b", collection="default")
    with pytest.raises(NotFoundError, match="collection 'nobody': there is none"):
        await lists.add("x", collection="nobody")
    with pytest.raises(NotFoundError, match="watchlist 'none': there is none"):
        await lists.put("none", ["Alice"])
    with pytest.raises(NotFoundError, match="subject 'Carol': collection default has none"):
        await lists.take("wanted", ["Alice", "Carol"])
    assert len(await lists.members("wanted")) == 2


# --- any order -----------------------------------------------------------------------------------------------------------------

MESSAGES = st.lists(
    st.tuples(st.integers(0, 9), st.integers(1, 3), st.integers(0, 240), st.integers(0, 30), st.sampled_from(["alice", "bob"])),
    min_size=1,
    max_size=14,
    unique_by=lambda m: (m[0], m[1]),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=MESSAGES, rng=st.randoms(use_true_random=False))
@pytest.mark.usefixtures("lists")
async def test_whatever_arrives_every_episode_is_told_and_nothing_twice(
    db: Database, messages: list[tuple[int, int, int, int, str]], rng: random.Random
) -> None:
    """Each alert was raised for time that no other alert covered; each episode of a listed subject has an alert, no other has."""
    await db.execute("truncate sighting, episode, alert cascade")
    store = SightingStore(db, episode_gap=GAP)
    queue = [arrival(f"t{t}", revision=r, first_s=first, last_s=first + length, subject=who) for t, r, first, length, who in messages]
    queue += rng.choices(queue, k=3)
    rng.shuffle(queue)
    raised: list[StoredAlert] = []
    while queue:
        before = await alerts(db)
        size = rng.randint(1, 4)
        new = await arrive(store, *queue[:size])
        del queue[:size]
        for alert in new:
            assert alert.subject_id == ALICE
            assert not [old for old in [*before, *raised] if _overlap(old, alert)]
        raised += new
    final = await alerts(db)
    assert {alert.alert_id for alert in final} == {alert.alert_id for alert in raised}
    for episode in (await store.episodes(Filter(), limit=500))[0]:
        linked = [alert for alert in final if alert.episode_id == episode.episode_id]
        covering = [alert for alert in final if alert.subject_id == episode.subject_id and _overlap(alert, episode)]
        assert bool(covering) == (episode.subject_id == ALICE)
        assert all(alert in covering for alert in linked)


def _overlap(one: Any, other: Any) -> bool:
    return bool(one.first_s <= other.last_s and one.last_s >= other.first_s)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(starts=st.lists(st.integers(0, 400), min_size=1, max_size=8, unique=True), rng=st.randoms(use_true_random=False))
@pytest.mark.usefixtures("lists")
async def test_in_order_of_time_there_is_exactly_one_alert_an_episode(db: Database, starts: list[int], rng: random.Random) -> None:
    await db.execute("truncate sighting, episode, alert cascade")
    store = SightingStore(db, episode_gap=GAP)
    for number, first in enumerate(sorted(starts)):
        one = arrival(f"t{number}", first_s=first, last_s=first + rng.randint(0, 20), subject="alice")
        await arrive(store, one)
        await arrive(store, one)
    episodes = (await store.episodes(Filter(), limit=500))[0]
    assert sorted(str(alert.episode_id) for alert in await alerts(db)) == sorted(episode.episode_id for episode in episodes)


# --- several processes -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("lists")
async def test_several_writers_at_once_raise_one_alert(store: SightingStore, db: Database) -> None:
    batches = [[arrival(f"t{n}", first_s=n, subject="alice", revision=r) for n in range(6)] for r in range(1, 5)]
    told = await asyncio.gather(*(arrive(store, *batch) for batch in batches))
    assert sum(map(len, told)) == 1
    assert spans(await alerts(db)) == [(0, 10)]


# --- recognizers that died ----------------------------------------------------------------------------------------------------------


async def test_silent_open_sightings_are_closed_once_and_opened_again_by_a_later_revision(store: SightingStore, db: Database) -> None:
    await arrive(store, arrival("old"), arrival("fresh"), arrival("done", closed=True))
    await db.execute("update sighting set revised_at = now() - interval '61 s' where track_id <> 'fresh'")
    closed = await asyncio.gather(*(store.close_silent(timedelta(seconds=60), limit=10) for _ in range(3)))
    assert sorted(closed) == [0, 0, 1]
    assert await arrive(store, arrival("old")) == []  # a redelivery changes nothing
    assert (await store.get(arrival("old").sighting.sighting_id)).sighting.closed
    await arrive(store, arrival("old", last_s=90, revision=2))
    again = (await store.get(arrival("old").sighting.sighting_id)).sighting
    assert (again.closed, again.last_s) == (False, NOW_S + 90)
    assert await store.close_silent(timedelta(seconds=60), limit=10) == 0
