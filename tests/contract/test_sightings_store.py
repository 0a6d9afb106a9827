"""The store against a real PostgreSQL."""

import random
import uuid
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import NotFoundError, UsageError
from core.ports import Database
from core.schema import Sighting
from sightings.episodes import Episode, merge
from sightings.forgetting import forget_subject
from sightings.record import Filter, StoredEpisode, StoredSighting
from sightings.rows import single, summary
from sightings.store import SightingStore
from tests.builders.counted import CountedDatabase
from tests.builders.sightings import ALICE, BOB, JPEG, NOW_S, arrival

GAP = timedelta(seconds=30)
ALL = Filter()


@pytest.fixture
def store(db: Database) -> SightingStore:
    return SightingStore(db, episode_gap=GAP)


async def enrol(db: Database, subject_id: str, name: str) -> None:
    await db.execute("insert into subject (subject_id, collection, name) values ($1, 'default', $2)", uuid.UUID(subject_id), name)


async def everything(store: SightingStore) -> tuple[list[StoredSighting], list[StoredEpisode]]:
    return (await store.query(ALL, limit=500))[0], (await store.episodes(ALL, limit=500))[0]


async def episodes(store: SightingStore, wanted: Filter = ALL) -> list[tuple[float, float, int]]:
    """Return (first, last, sightings) of each episode, oldest first, in seconds after NOW_S."""
    return [(one.first_s - NOW_S, one.last_s - NOW_S, one.sightings) for one in reversed((await store.episodes(wanted, limit=500))[0])]


async def test_a_sighting_comes_back_as_it_was_stored_without_its_embedding(store: SightingStore) -> None:
    sent = arrival(subject="alice")
    (changed,) = await store.upsert([sent], now_s=NOW_S)
    read = await store.get(sent.sighting.sighting_id)
    for field in set(Sighting.__struct_fields__) - {"embedding"}:
        assert getattr(read.sighting, field) == getattr(sent.sighting, field), field
    assert read.sighting.embedding is None
    assert changed.sighting.path == ()
    assert changed.episode_id == read.episode_id is not None
    assert await store.thumbnail(sent.sighting.sighting_id) == JPEG


async def test_the_highest_revision_wins_whatever_the_order(store: SightingStore) -> None:
    await store.upsert([arrival(revision=2, faces=9), arrival(revision=3, faces=10), arrival(revision=1, faces=1)], now_s=NOW_S)
    assert await store.upsert([arrival(revision=2, faces=9)], now_s=NOW_S) == []
    ((only,), _) = await store.query(ALL, limit=10)
    assert (only.sighting.revision, only.sighting.faces) == (3, 10)


async def test_a_redelivered_revision_changes_nothing(store: SightingStore) -> None:
    await store.upsert([arrival(subject="alice")], now_s=NOW_S)
    before = await everything(store)
    assert await store.upsert([arrival(subject="alice")], now_s=NOW_S + 60) == []
    assert await everything(store) == before


async def test_a_sighting_that_arrives_late_joins_the_two_episodes_it_bridges(store: SightingStore) -> None:
    await store.upsert([arrival("a", first_s=0, last_s=10, subject="alice")], now_s=NOW_S)
    await store.upsert([arrival("c", first_s=70, last_s=80, subject="alice")], now_s=NOW_S)
    assert await episodes(store) == [(0, 10, 1), (70, 80, 1)]
    await store.upsert([arrival("b", first_s=35, last_s=45, subject="alice")], now_s=NOW_S)
    assert await episodes(store) == [(0, 80, 3)]
    assert len({one.episode_id for one in (await store.query(ALL, limit=9))[0]}) == 1


async def test_an_episode_falls_apart_when_the_bridge_turns_out_to_be_somebody_else(store: SightingStore) -> None:
    await store.upsert([arrival(t, first_s=s, subject="alice") for t, s in (("a", 0), ("b", 30), ("c", 60))], now_s=NOW_S)
    assert await episodes(store) == [(0, 65, 3)]
    await store.upsert([arrival("b", first_s=30, subject="bob", revision=2)], now_s=NOW_S)
    assert await episodes(store, Filter(subject=ALICE)) == [(0, 5, 1), (60, 65, 1)]
    assert await episodes(store, Filter(subject=BOB)) == [(30, 35, 1)]


async def test_a_stranger_that_becomes_known_joins_an_episode_and_leaves_it_again(store: SightingStore) -> None:
    await store.upsert([arrival("a", subject=None)], now_s=NOW_S)
    assert await episodes(store) == []
    await store.upsert([arrival("a", subject="alice", revision=2)], now_s=NOW_S)
    assert await episodes(store) == [(0, 5, 1)]
    await store.upsert([arrival("a", subject=None, revision=3)], now_s=NOW_S)
    assert await episodes(store) == []
    assert (await store.query(ALL, limit=1))[0][0].episode_id is None


async def test_an_episode_shrinks_with_a_sighting_that_ends_earlier_after_all(store: SightingStore) -> None:
    await store.upsert([arrival("a", first_s=0, last_s=40, subject="alice"), arrival("b", first_s=60, subject="alice")], now_s=NOW_S)
    assert await episodes(store) == [(0, 65, 2)]
    await store.upsert([arrival("a", first_s=0, last_s=10, subject="alice", revision=2)], now_s=NOW_S)
    assert await episodes(store) == [(0, 10, 1), (60, 65, 1)]


async def test_another_sighting_shows_the_episode_when_the_best_one_loses_quality(store: SightingStore) -> None:
    first, second = arrival("a", subject="alice", quality=0.9), arrival("b", first_s=10, subject="alice", quality=0.6)
    await store.upsert([first, second], now_s=NOW_S)
    assert (await store.episodes(ALL, limit=1))[0][0].best_sighting_id == first.sighting.sighting_id
    await store.upsert([arrival("a", subject="alice", quality=0.3, revision=2)], now_s=NOW_S)
    assert (await store.episodes(ALL, limit=1))[0][0].best_sighting_id == second.sighting.sighting_id


async def test_cameras_and_subjects_have_their_own_episodes(store: SightingStore) -> None:
    await store.upsert(
        [arrival("a", subject="alice"), arrival("b", subject="bob"), arrival("c", subject="alice", camera="hall")], now_s=NOW_S
    )
    assert len((await store.episodes(ALL, limit=9))[0]) == 3
    assert len((await store.episodes(Filter(camera="hall"), limit=9))[0]) == 1


async def test_a_batch_costs_as_many_questions_as_one_sighting(db: Database) -> None:
    for turn, count in enumerate((1, 50)):
        counted = CountedDatabase(db)
        batch = [arrival(f"{turn}/{n}", camera=f"c{n % 5}", first_s=100 * turn + n, subject="alice") for n in range(count)]
        await SightingStore(counted, episode_gap=GAP).record(batch, now_s=NOW_S)
        assert len(counted.asked) == 10, counted.asked


MESSAGES = st.lists(
    st.tuples(st.integers(0, 7), st.integers(1, 4), st.integers(0, 200), st.integers(0, 40), st.sampled_from(["alice", "bob", None])),
    min_size=1,
    max_size=12,
    unique_by=lambda m: (m[0], m[1]),
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=MESSAGES, rng=st.randoms(use_true_random=False))
async def test_any_order_batching_and_duplication_ends_in_the_same_tables(
    db: Database, messages: list[tuple[int, int, int, int, str | None]], rng: random.Random
) -> None:
    store = SightingStore(db, episode_gap=GAP)
    arrivals = [
        arrival(f"t{track}", revision=revision, first_s=first, last_s=first + length, subject=subject, quality=round(rng.random(), 3))
        for track, revision, first, length, subject in messages
    ]
    outcomes = []
    for _ in range(2):
        await db.execute("truncate sighting, episode, alert cascade")
        queue = arrivals + rng.choices(arrivals, k=3)
        rng.shuffle(queue)
        while queue:
            size = rng.randint(1, 4)
            await store.upsert(queue[:size], now_s=NOW_S)
            del queue[:size]
        outcomes.append(await everything(store))
    assert outcomes[0] == outcomes[1]
    assert await kept_episodes(db) == await episodes_from_scratch(db)


async def kept_episodes(db: Database) -> dict[uuid.UUID, tuple[Episode, int]]:
    """Return the stored episodes, each with the number of sightings that point to it."""
    counts = await db.fetch("select episode_id, count(*) as n from sighting where episode_id is not null group by 1")
    held = {row["episode_id"]: row["n"] for row in counts}
    return {row["episode_id"]: (summary(row), held.pop(row["episode_id"])) for row in await db.fetch("select * from episode")}


async def episodes_from_scratch(db: Database) -> dict[uuid.UUID, tuple[Episode, int]]:
    rows = await db.fetch("select * from sighting where outcome = 'subject'")
    made = [one.episode for one in merge([single(row) for row in rows], GAP)]
    return {episode.episode_id: (episode, episode.sightings) for episode in made}


async def test_pages_run_newest_first_and_neither_repeat_nor_skip_while_new_sightings_arrive(store: SightingStore) -> None:
    await store.upsert([arrival(f"t{n}", first_s=n // 2) for n in range(11)], now_s=NOW_S)  # pairs share their time
    seen: list[str] = []
    cursor = None
    for page in range(6):
        found, cursor = await store.query(ALL, limit=2, cursor=cursor)
        seen += [one.sighting.track_id for one in found]
        await store.upsert([arrival(f"new{page}", first_s=100 + page)], now_s=NOW_S)
        await store.upsert([arrival(f"t{page}", first_s=page // 2, last_s=900, revision=2)], now_s=NOW_S)  # seen again: keeps its place
    assert cursor is None
    assert sorted(seen) == sorted(f"t{n}" for n in range(11))
    times = [int(track[1:]) // 2 for track in seen]
    assert times == sorted(times, reverse=True)


async def test_filters(store: SightingStore, db: Database) -> None:
    await enrol(db, ALICE, "Alice")
    await store.upsert(
        [
            arrival("a", first_s=0, last_s=10, subject="alice"),
            arrival("b", first_s=20, last_s=30, camera="hall"),
            arrival("c", first_s=40, last_s=50, outcome="unclear", reason="too_small"),
        ],
        now_s=NOW_S,
    )

    async def found(**wanted: object) -> list[str]:
        return sorted(one.sighting.track_id for one in (await store.query(Filter(**wanted), limit=9))[0])  # type: ignore[arg-type]

    assert await found(camera="hall") == ["b"]
    assert await found(subject=ALICE) == await found(subject="Alice") == ["a"]
    assert await found(subject="'; drop table sighting; --") == []
    assert await found(outcome="unclear") == ["c"]
    assert await found(since_s=NOW_S + 30) == ["b", "c"]
    assert await found(until_s=NOW_S + 20) == ["a"]
    assert await found(since_s=NOW_S + 5, until_s=NOW_S + 6) == ["a"]


async def test_a_renamed_subject_is_shown_and_found_by_the_new_name(store: SightingStore, db: Database) -> None:
    await enrol(db, ALICE, "Alice Liddell")
    await store.upsert([arrival("a", subject="alice")], now_s=NOW_S)
    ((one,), _) = await store.query(Filter(subject="Alice Liddell"), limit=9)
    ((episode,), _) = await store.episodes(Filter(subject="Alice Liddell"), limit=9)
    assert one.sighting.subject == episode.subject == "Alice Liddell"


async def test_erasure_takes_name_picture_and_embedding_and_reaches_what_still_arrives(store: SightingStore, db: Database) -> None:
    await store.upsert([arrival("a", subject="alice"), arrival("b", subject="bob")], now_s=NOW_S)
    assert await forget_subject(db, ALICE) == 1
    assert await forget_subject(db, ALICE) == 0
    await store.upsert([arrival("a", subject="alice", revision=2), arrival("late", subject="alice")], now_s=NOW_S)
    rows = await db.fetch(
        "select subject, subject_id, reference_id, score, embedding, thumbnail, episode_id, outcome, reason from sighting "
        "where track_id <> 'b'"
    )
    assert len(rows) == 2
    for row in rows:
        assert (row.pop("outcome"), row.pop("reason")) == ("stranger", "erased")
        assert set(row.values()) == {None}
    assert [one.subject_id for one in (await store.episodes(ALL, limit=9))[0]] == [BOB]
    with pytest.raises(NotFoundError, match="there is no picture of it"):
        await store.thumbnail(arrival("a").sighting.sighting_id)


async def test_retention_deletes_in_chunks_by_time_of_storage_and_trims_episodes(store: SightingStore, db: Database) -> None:
    await store.upsert([arrival(f"old{n}", first_s=n, subject="alice") for n in range(5)], now_s=NOW_S)
    await store.upsert([arrival("new", first_s=6, subject="alice")], now_s=NOW_S + 100)
    await store.upsert([arrival("old0", first_s=0, subject="alice", revision=2)], now_s=NOW_S + 100)  # a later revision gains no time
    assert [await store.delete_stored_before(NOW_S + 50, limit=2) for _ in range(4)] == [2, 2, 1, 0]
    assert await episodes(store) == [(6, 11, 1)]
    assert (await db.fetch("select count(*) n from sighting where episode_id is null"))[0]["n"] == 0


@pytest.mark.parametrize("text", ["nonsense", "", "a" * 4000])
async def test_ids_that_are_no_uuids_find_nothing(store: SightingStore, text: str) -> None:
    with pytest.raises(NotFoundError, match="ids are UUIDs"):
        await store.get(text)


@pytest.mark.parametrize(
    "wanted", [{"camera": "a\x00b"}, {"subject": "\x00"}, {"since_s": -1.0}, {"until_s": float("nan")}, {"since_s": 1e30}]
)
def test_filters_that_no_database_could_answer_are_refused(wanted: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Filter(**wanted)  # type: ignore[arg-type]
