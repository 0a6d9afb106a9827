"""Watchlists with camera groups, active hours and strangers, against a real PostgreSQL."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from core.errors import ConflictError, StaleError, UsageError
from core.ports import Database
from core.schema import Array
from sightings.alerts import AlertStore
from sightings.hours import Interval, is_active, parse_interval
from sightings.record import Arrival, StoredAlert
from sightings.store import SightingStore
from sightings.watchlists import Policy, WatchlistStore
from tests.builders.counted import CountedDatabase
from tests.builders.sightings import ALICE, NOW_S, arrival

GAP = timedelta(seconds=30)
WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@pytest.fixture
def store(db: Database) -> SightingStore:
    return SightingStore(db, episode_gap=GAP)


@pytest.fixture
async def lists(db: Database) -> WatchlistStore:
    await db.execute("insert into subject (subject_id, collection, name) values ($1, 'default', 'Alice')", uuid.UUID(ALICE))
    await db.execute(
        "insert into camera (name, url_encrypted, url_redacted, groups) "
        "values ('door', '', '', '{entrances,north}'), ('hall', '', '', '{}')"
    )
    return WatchlistStore(db)


async def arrive(store: SightingStore, *arrivals: Arrival) -> list[StoredAlert]:
    return (await store.record(arrivals, now_s=NOW_S)).alerts


def stranger(track: str, first_s: float = 0.0, *, face: int = 0, **changes: Any) -> Arrival:
    """Return a stranger of one of four faces that are nothing alike."""
    return arrival(track, first_s=first_s, embedding=Array.pack(np.eye(4, dtype=np.float32)[face]), **changes)


async def test_only_cameras_of_its_groups_concern_a_watchlist(store: SightingStore, lists: WatchlistStore) -> None:
    for name, groups in (("everywhere", ()), ("north", ("north", "south")), ("south", ("south",))):
        await lists.add(name, collection="default", policy=Policy(camera_groups=groups))
        await lists.put(name, ["Alice"])
    assert [a.watchlist for a in await arrive(store, arrival("a", subject="alice"))] == ["everywhere", "north"]
    assert [a.watchlist for a in await arrive(store, arrival("b", subject="alice", camera="hall"))] == ["everywhere"]
    assert [a.watchlist for a in await arrive(store, arrival("c", subject="alice", camera="unlisted"))] == ["everywhere"]


async def test_active_hours_go_by_the_time_of_capture(store: SightingStore, lists: WatchlistStore) -> None:
    day = datetime.fromtimestamp(NOW_S, UTC)
    hours = Interval(days=(WEEK[day.weekday()],), begin=f"{day:%H:%M}", end=f"{day + timedelta(hours=1):%H:%M}")  # type: ignore[arg-type]
    await lists.add("shift", collection="default", policy=Policy(active_hours=(hours,)))
    await lists.put("shift", ["Alice"])
    start_s = NOW_S - NOW_S % 60 - NOW_S
    assert await arrive(store, arrival("before", subject="alice", first_s=start_s - 60, last_s=start_s - 40)) == []
    (alert,) = await arrive(store, arrival("grows", subject="alice", first_s=start_s - 20, last_s=start_s + 1))
    assert alert.watchlist == "shift"
    assert await arrive(store, arrival("after", subject="alice", first_s=start_s + 3600, last_s=start_s + 3700)) == []


@pytest.mark.parametrize(
    ("intervals", "zone", "at", "active"),
    [
        ("mon-fri 08:00-18:00", "Europe/Berlin", "2026-03-27T07:00+00:00", True),  # 08:00 there, in winter
        ("mon-fri 08:00-18:00", "Europe/Berlin", "2026-03-30T06:00+00:00", True),  # 08:00 there, in summer
        ("mon-fri 08:00-18:00", "Europe/Berlin", "2026-03-30T05:59+00:00", False),
        ("mon-fri 08:00-18:00", "Europe/Berlin", "2026-03-28T10:00+00:00", False),  # a Saturday
        ("fri 22:00-06:00", "UTC", "2026-03-28T05:59+00:00", True),  # over midnight
        ("fri 22:00-06:00", "UTC", "2026-03-28T06:00+00:00", False),
        ("sat,sun 00:00-24:00", "UTC", "2026-03-29T23:59+00:00", True),
        ("sat,sun 00:00-24:00", "UTC", "2026-03-30T00:00+00:00", False),
        ("sun-mon 12:00-12:00", "UTC", "2026-03-31T11:59+00:00", True),  # Monday noon to Tuesday noon
        ("mon 00:00-00:01", "No/Where", "2026-03-31T11:59+00:00", True),  # better an alert too many
    ],
)
def test_weekly_intervals_follow_the_clock_on_the_wall(intervals: str, zone: str, at: str, active: bool) -> None:
    instant = datetime.fromisoformat(at)
    assert is_active([parse_interval(intervals)], zone, instant, instant) is active


@pytest.mark.parametrize("text", ["", "mon", "mon 8-18", "funday 08:00-18:00", "mon 24:00-06:00", "mon 08:60-09:00", "mon 08:00"])
def test_hours_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="active hours"):
        parse_interval(text)


async def test_a_stranger_rings_once_and_another_one_again(store: SightingStore, lists: WatchlistStore, db: Database) -> None:
    await lists.add("nobody", collection="default", policy=Policy(alert_on="stranger", camera_groups=("entrances",)))
    (alert,) = await arrive(store, stranger("a"))
    assert (alert.kind, alert.watchlist, alert.subject, alert.score, alert.episode_id) == ("stranger", "nobody", None, None, None)
    assert await arrive(store, stranger("a", last_s=9, revision=2, closed=True)) == []  # the same track
    assert await arrive(store, stranger("b", 20)) == []  # the same face within the gap
    assert len(await arrive(store, stranger("c", 22, face=1))) == 1  # somebody else at the same time
    assert len(await arrive(store, stranger("d", 300))) == 1  # another visit
    assert await arrive(store, stranger("e", camera="hall")) == []
    assert await arrive(store, arrival("f", subject="alice"), arrival("g", outcome="unclear", reason="too_small")) == []
    assert await arrive(store, stranger("h", 400, reason="erased"), stranger("i", 400, collection="default", face=2, last_s=401)) == []
    first = await AlertStore(db).get(alert.alert_id)
    assert (first.first_s - NOW_S, first.last_s - NOW_S) == (0, 25)


async def test_strangers_of_a_batch_ring_as_if_they_came_one_by_one(store: SightingStore, lists: WatchlistStore, db: Database) -> None:
    await lists.add("nobody", collection="default", policy=Policy(alert_on="stranger"))
    rng = np.random.default_rng(3)
    ringing = 0
    for turn in range(12):
        count = int(rng.integers(2, 14))
        came = [(first_s, float(rng.uniform(0, 60)), int(rng.integers(0, 3))) for first_s in sorted(rng.uniform(0, 400, count).tolist())]
        for camera, batch in ((f"one{turn}", 1), (f"some{turn}", 5), (f"all{turn}", count)):
            half = count // 2
            for revisions in ([1] * half, [2] * half + [1] * (count - half), [3] * count):  # known ones last longer, others are new
                visits = [
                    stranger(
                        f"{camera}/{n}", first_s, face=face, last_s=first_s + revision * lasted_s, camera=camera, closed=True,
                        revision=revision,
                    )
                    for n, ((first_s, lasted_s, face), revision) in enumerate(zip(came, revisions, strict=False))
                ]  # fmt: skip
                for first in range(0, len(visits), batch):
                    ringing += len(await arrive(store, *visits[first : first + batch]))
        told = [await rings(db, f"{kind}{turn}") for kind in ("one", "some", "all")]
        assert told[0] == told[1] == told[2]
    assert ringing > 60  # twelve times three cameras: some rang more than once


async def rings(db: Database, camera: str) -> list[tuple[float, float, list[str]]]:
    """Return what the alerts of a camera cover: from when, until when, which tracks."""
    rows = await db.fetch(
        "select extract(epoch from a.first_at)::float8 as first_s, extract(epoch from a.last_at)::float8 as last_s, "
        "array(select split_part(s.track_id, '/', 2) from alert_sighting x join sighting s using (sighting_id) "
        "where x.alert_id = a.alert_id order by 1) as tracks from alert a where a.camera = $1 order by 1, 2, 3",
        camera,
    )
    return [(row["first_s"], row["last_s"], row["tracks"]) for row in rows]


async def test_a_batch_of_strangers_costs_no_more_questions_than_two(lists: WatchlistStore, db: Database) -> None:
    await lists.add("nobody", collection="default", policy=Policy(alert_on="stranger"))
    asked = []
    for turn, count in enumerate((2, 40)):
        counted = CountedDatabase(db)
        batch = [stranger(f"{turn}/{n}", 100 * turn + n, face=n % 4, camera=f"c{n % 3}") for n in range(count)]
        await arrive(SightingStore(counted, episode_gap=GAP), *batch)
        asked.append(counted.asked)
    assert asked[0] == asked[1]


async def test_a_stranger_is_told_of_when_the_track_has_settled(store: SightingStore, lists: WatchlistStore, db: Database) -> None:
    await lists.add("nobody", collection="default", policy=Policy(alert_on="stranger"))
    assert await arrive(store, stranger("a", last_s=1.5)) == []
    assert await arrive(store, arrival("a", last_s=3, subject="alice", revision=2)) == []  # known after all: never told
    assert await arrive(store, stranger("b", 50, last_s=51)) == []
    assert len(await arrive(store, stranger("b", 50, last_s=51, closed=True, revision=2))) == 1  # a short visit counts when it is over


async def test_an_alert_of_a_stranger_who_is_known_after_all_is_closed_unless_somebody_took_it_up(
    store: SightingStore, lists: WatchlistStore, db: Database
) -> None:
    await lists.add("nobody", collection="default", policy=Policy(alert_on="stranger"))
    (alert,) = await arrive(store, stranger("a"))
    assert await arrive(store, arrival("a", subject="alice", revision=2, last_s=9)) == []
    now = await AlertStore(db).get(alert.alert_id)
    (entry,) = await AlertStore(db).history(alert.alert_id)
    assert (now.state, now.version, entry.actor, entry.action) == ("closed", 2, "system", "known after all")
    told = await db.fetch("select revision from event where kind = 'alert' and key = $1 order by event_id", alert.alert_id)
    assert [row["revision"] for row in told] == [1, 2]
    (other,) = await arrive(store, stranger("b", 300))
    await db.execute("update alert set state = 'acknowledged' where alert_id = $1", uuid.UUID(other.alert_id))
    await arrive(store, arrival("b", first_s=300, subject="alice", revision=2))
    assert (await AlertStore(db).get(other.alert_id)).state == "acknowledged"


async def test_a_policy_is_changed_field_by_field_and_never_over_somebody_elses_change(lists: WatchlistStore) -> None:
    made = await lists.add("wanted", collection="default", policy=Policy(description="x", sound="alarm"))
    changed = await lists.change("wanted", {"colour": "#00ff00"}, version=made.version)
    assert (changed.policy.colour, changed.policy.sound, changed.version) == ("#00ff00", "alarm", 2)
    with pytest.raises(StaleError, match="watchlist 'wanted': was changed meanwhile"):
        await lists.change("wanted", {"colour": "#0000ff"}, version=made.version)
    assert (await lists.change("wanted", {"colour": "#00ff00"})).version == 2  # nothing changed
    for bad in ({"colour": "red"}, {"sound": "gong"}, {"time_zone": "Mars/Base"}, {"camera_groups": ("a b",)}, {"alert_on": "all"}):
        with pytest.raises(UsageError):
            await lists.change("wanted", bad)
    await lists.put("wanted", ["Alice"])
    with pytest.raises(ConflictError, match="lists 1 people; take them off before it alerts on strangers"):
        await lists.change("wanted", {"alert_on": "stranger"})
    await lists.take("wanted", ["Alice"])
    await lists.change("wanted", {"alert_on": "stranger"})
    with pytest.raises(ConflictError, match="alerts on strangers, so it lists nobody"):
        await lists.put("wanted", ["Alice"])
