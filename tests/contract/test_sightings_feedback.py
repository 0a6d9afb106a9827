"""Wrong names: they go with everything that follows from them, stay gone, and come back when that was wrong."""

import uuid
from datetime import timedelta

import numpy as np
import pytest

from core.errors import ConflictError, NotFoundError, UsageError
from core.ports import Database
from core.schema import Array
from enrollment.store import GalleryStore
from recognize.rules.store import RulesReader
from sightings.alerts_acts import Actor, AlertDesk
from sightings.feedback import FeedbackStore, feedback_of_alerts
from sightings.forgetting import forget_subject
from sightings.record import Filter
from sightings.scope import Scope
from sightings.store import SightingStore
from sightings.taking import Renamed, Said
from sightings.watchlists import WatchlistStore
from tests.builders.sightings import ALICE, BOB, arrival

GAP = timedelta(seconds=30)
GUARD = Said(actor="user:1", name="guard", reason="her sister")
ADMIN = Actor(actor="user:2", name="admin")
ONE, TWO = (arrival(f"door/s1/{n}#0").sighting.sighting_id for n in (1, 2))


@pytest.fixture
def store(db: Database) -> FeedbackStore:
    return FeedbackStore(db, episode_gap=GAP)


@pytest.fixture
def record(db: Database) -> SightingStore:
    return SightingStore(db, episode_gap=GAP)


@pytest.fixture(autouse=True)
async def people(db: Database) -> None:
    for key, name in ((ALICE, "Alice"), (BOB, "Bob")):
        await db.execute("insert into subject (subject_id, collection, name) values ($1, 'default', $2)", key, name)
    lists = WatchlistStore(db)
    await lists.add("vip", collection="default")
    await lists.put("vip", ["Alice", "Bob"])


async def alerts(db: Database) -> list[tuple[str, str, bool]]:
    rows = await db.fetch("select subject, state, episode_id is not null as lives from alert order by raised_at, subject")
    return [(row["subject"], row["state"], row["lives"]) for row in rows]


async def test_a_wrong_name_goes_with_episode_and_alert_and_comes_back(db: Database, store: FeedbackStore, record: SightingStore) -> None:
    await record.record([arrival("door/s1/1#0", subject="alice")])
    said = await store.wrong_person(ONE, ALICE, GUARD)
    assert (said.verdict, said.subject, said.actor, said.reason, said.score) == ("wrong_person", "Alice", "user:1", "her sister", 0.73)
    assert said.reference_id == str(uuid.UUID(int=7))
    now = (await record.get(ONE)).sighting
    assert (now.outcome, now.reason, now.subject_id, now.subject, now.reference_id, now.revision) == (
        "stranger", "rejected_pair", None, None, None, 2,
    )  # fmt: skip
    assert (await record.episodes(Filter(), limit=9))[0] == []
    assert await alerts(db) == [("Alice", "rejected", False)]
    assert await store.wrong_person(ONE, ALICE, GUARD) == said
    undone = await store.undo(ONE, None, GUARD)
    assert undone.feedback_id == said.feedback_id
    back = (await record.get(ONE)).sighting
    assert (back.outcome, back.reason, back.subject, back.reference_id, back.score, back.threshold, back.revision) == (
        "subject", "", "Alice", str(uuid.UUID(int=7)), 0.73, 0.48, 3,
    )  # fmt: skip
    assert [one.subject for one in (await record.episodes(Filter(), limit=9))[0]] == ["Alice"]
    assert await alerts(db) == [("Alice", "new", True)]
    with pytest.raises(NotFoundError, match=rf"^sighting {ONE}: nobody said that its name is wrong$"):
        await store.undo(ONE, None, GUARD)


async def test_no_later_revision_brings_a_wrong_name_back(store: FeedbackStore, record: SightingStore) -> None:
    await record.record([arrival("door/s1/1#0", subject="alice")])
    await store.wrong_person(ONE, ALICE, GUARD)
    (stored,) = (await record.record([arrival("door/s1/1#0", subject="alice", revision=900, closed=True)])).sightings
    assert (stored.outcome, stored.reason, stored.subject) == ("stranger", "rejected_pair", None)
    (other,) = (await record.record([arrival("door/s1/1#0", subject="bob", revision=1800)])).sightings
    assert other.subject == "Bob"  # who it may well be
    await store.undo(ONE, ALICE, GUARD)
    assert (await record.get(ONE)).sighting.subject == "Alice"


async def test_a_sighting_becomes_the_next_candidate_with_an_episode_and_alert_of_their_own(
    db: Database, store: FeedbackStore, record: SightingStore
) -> None:
    await record.record([arrival("door/s1/1#0", subject="alice")])
    bob = Renamed(outcome="subject", reason="", subject_id=BOB, subject="Bob", score=0.6, threshold=0.5)
    await store.wrong_person(ONE, ALICE, GUARD, bob)
    now = (await record.get(ONE)).sighting
    assert (now.subject, now.score, now.threshold) == ("Bob", 0.6, 0.5)
    assert sorted(await alerts(db)) == [("Alice", "rejected", False), ("Bob", "new", True)]


async def test_an_episode_that_goes_on_without_the_sighting_keeps_its_alert_and_shows_another_picture(
    db: Database, store: FeedbackStore, record: SightingStore
) -> None:
    await record.record([arrival("door/s1/1#0", subject="alice", quality=0.9), arrival("door/s1/2#0", subject="alice", first_s=10)])
    assert [row["id"] for row in await db.fetch("select sighting_id::text as id from alert")] == [ONE]
    await store.wrong_person(ONE, ALICE, GUARD)
    assert await alerts(db) == [("Alice", "new", True)]
    assert [row["id"] for row in await db.fetch("select sighting_id::text as id from alert")] == [TWO]


async def test_rejecting_an_alert_says_that_the_name_is_wrong_and_reopening_takes_it_back(db: Database, record: SightingStore) -> None:
    (alert,) = (await record.record([arrival("door/s1/1#0", subject="alice")])).alerts
    desk = AlertDesk(db, feedback_of_alerts(GAP))
    await desk.act(alert.alert_id, "reject", ADMIN)
    assert (await record.get(ONE)).sighting.reason == "rejected_pair"
    assert len((await RulesReader(db).read()).exemplars) == 1
    assert (await desk.act(alert.alert_id, "reopen", ADMIN)).state == "acknowledged"
    assert (await record.get(ONE)).sighting.subject == "Alice"
    assert (await RulesReader(db).read()).exemplars == {}
    assert await alerts(db) == [("Alice", "acknowledged", True)]


async def test_an_exemplar_is_the_sightings_embedding_sealed_and_goes_with_its_subject(
    db: Database, store: FeedbackStore, record: SightingStore
) -> None:
    vector = np.array([0.6, 0.8, 0, 0], np.float32)
    await record.record([arrival("door/s1/1#0", subject="alice", embedding=Array.pack(vector))])
    await store.wrong_person(ONE, ALICE, GUARD)
    (row,) = await db.fetch("select embedding from feedback")
    assert vector.tobytes() not in row["embedding"]
    reader = RulesReader(db)
    for _ in range(2):  # from the database, then from memory
        assert (await reader.read()).exemplars[ALICE, "fr_feature"].tolist() == [vector.tolist()]
    await GalleryStore(db, forget=forget_subject).erase(ALICE)
    assert await db.fetch("select from feedback") == []
    assert (await reader.read()).exemplars == {}


async def test_an_exemplar_of_somebodys_face_goes_when_they_are_erased(db: Database, store: FeedbackStore, record: SightingStore) -> None:
    await record.record([arrival("door/s1/1#0", subject="alice")])
    await store.wrong_person(ONE, ALICE, GUARD, Renamed(outcome="subject", reason="", subject_id=BOB, subject="Bob"))
    await GalleryStore(db, forget=forget_subject).erase(BOB)
    assert await db.fetch("select from feedback") == []


async def test_a_name_that_was_never_given_can_be_said_to_be_wrong(db: Database, store: FeedbackStore, record: SightingStore) -> None:
    await record.record([arrival("door/s1/1#0", subject="bob")])
    said = await store.wrong_person(ONE, ALICE, GUARD)
    assert (said.subject, said.reference_id) == ("Alice", None)
    assert (await record.get(ONE)).sighting.subject == "Bob"
    await store.wrong_person(ONE, BOB, GUARD)
    with pytest.raises(ConflictError, match=rf"^sighting {ONE}: 2 names were said to be wrong; say with subject_id which to give back$"):
        await store.undo(ONE, None, GUARD)
    await store.undo(ONE, ALICE, GUARD)
    assert (await record.get(ONE)).sighting.subject is None
    await store.undo(ONE, None, GUARD)
    assert (await record.get(ONE)).sighting.subject == "Bob"


async def test_undoing_gives_no_name_back_to_who_has_opted_out_since(db: Database, store: FeedbackStore, record: SightingStore) -> None:
    await record.record([arrival("door/s1/1#0", subject="alice")])
    await store.wrong_person(ONE, ALICE, GUARD)
    await db.execute("insert into opt_out (subject_id, set_by) values ($1, 'a')", ALICE)
    await store.undo(ONE, None, GUARD)
    assert (await record.get(ONE)).sighting.subject is None


async def test_what_was_said_outlives_its_sighting(db: Database, store: FeedbackStore, record: SightingStore) -> None:
    await record.record([arrival("door/s1/1#0", subject="alice")])
    await store.wrong_person(ONE, ALICE, GUARD)
    await db.execute("delete from sighting")
    assert len((await RulesReader(db).read()).exemplars) == 1
    await store.undo(ONE, None, GUARD)
    assert (await RulesReader(db).read()).exemplars == {}


async def test_a_name_is_confirmed_and_what_was_said_is_listed(store: FeedbackStore, record: SightingStore) -> None:
    await record.record([arrival("door/s1/1#0", subject="alice"), arrival("door/s1/2#0", subject="bob")])
    await store.confirm(ONE, GUARD)
    assert [one.verdict for one in (await store.query(limit=9))[0]] == ["right_person"]
    await store.confirm(TWO, GUARD)
    await store.wrong_person(ONE, ALICE, GUARD)  # on second thoughts
    first, cursor = await store.query(limit=1)
    rest, end = await store.query(limit=1, cursor=cursor)
    assert [(one.sighting_id, one.verdict) for one in (*first, *rest)] == [(ONE, "wrong_person"), (TWO, "right_person")]
    assert end is None
    assert [one.subject for one in (await store.query(subject_id=BOB, limit=9))[0]] == ["Bob"]
    assert (await store.query(sighting_id=TWO, verdict="wrong_person", limit=9))[0] == []
    with pytest.raises(ConflictError, match=rf"^sighting {ONE}: has no name that could be right$"):
        await store.confirm(ONE, GUARD)
    with pytest.raises(UsageError, match=r"^cursor: not one that this server gave out"):
        await store.query(limit=1, cursor="nonsense")


async def test_what_can_not_be_said(db: Database, store: FeedbackStore, record: SightingStore) -> None:
    with pytest.raises(NotFoundError, match=rf"^sighting {ONE}: there is none$"):
        await store.wrong_person(ONE, ALICE, GUARD)
    await record.record([arrival("door/s1/1#0", subject="alice")])
    absent = str(uuid.UUID(int=5))
    with pytest.raises(NotFoundError, match=rf"^subject '{absent}': collection default has none of this id$"):
        await store.wrong_person(ONE, absent, GUARD)
    await db.execute("update sighting set embedding = null")
    with pytest.raises(ConflictError, match=rf"^sighting {ONE}: its embedding was erased, so there is nothing to remember of the face$"):
        await store.wrong_person(ONE, ALICE, GUARD)


@pytest.mark.parametrize("scope", [Scope(collections=frozenset({"other"})), Scope(camera_groups=frozenset({"lobby"}))])
async def test_what_is_not_granted_is_as_if_it_were_not_there(db: Database, record: SightingStore, scope: Scope) -> None:
    await record.record([arrival("door/s1/1#0", subject="alice")])
    await FeedbackStore(db, episode_gap=GAP).wrong_person(ONE, ALICE, GUARD)
    foreign = FeedbackStore(db, episode_gap=GAP, scope=scope)
    for act in (foreign.face(ONE), foreign.wrong_person(ONE, ALICE, GUARD), foreign.confirm(ONE, GUARD)):
        with pytest.raises(NotFoundError, match=rf"^sighting {ONE}: there is none$"):
            await act
    with pytest.raises(NotFoundError, match="nobody said"):
        await foreign.undo(ONE, None, GUARD)
    assert (await foreign.query(limit=9))[0] == []
