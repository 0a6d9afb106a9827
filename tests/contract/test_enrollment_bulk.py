"""enrollment.bulk over a real PostgreSQL and a real shard."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from core.errors import NotFoundError
from core.ports import Database
from core.types import F32
from enrollment.bulk import BulkEnroller, Precomputed, Space
from enrollment.record import Outcome, SubjectDetails
from enrollment.service import EnrollOptions
from enrollment.store import GalleryStore
from matcher.client import MatcherClient
from matcher.local import LocalShard, open_local_shard
from matcher.shard import Shard
from matcher.snapshot import catch_up, load_shard
from sightings.forgetting import forget_subject
from tests.builders.gallery import calibration

MODEL = "painted"
D = 64


@pytest.fixture
async def shard(db: Database) -> AsyncIterator[LocalShard]:
    async with open_local_shard(Shard()) as one:
        await load_shard(db, one)
        yield one


def unit(seed: int) -> F32:
    vector = np.random.default_rng(seed).standard_normal(D)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def given(subject: str, vector: F32, **changes: object) -> Precomputed:
    return replace(Precomputed(source=f"{subject}.bin", subject=subject, vector=vector), **changes)  # type: ignore[arg-type]


async def bring(
    db: Database,
    shard: LocalShard,
    batch: Sequence[Precomputed],
    *,
    model: str = MODEL,
    details: SubjectDetails | None = None,
    **options: object,
) -> list[Outcome]:
    bulk = BulkEnroller(matcher=MatcherClient([shard]), calibration=calibration(), model=MODEL)
    judged = await bulk.judge(db, batch, space=Space(model=model, dimensions=D), options=EnrollOptions(**options))  # type: ignore[arg-type]
    async with db.transaction() as tx:
        outcomes = await bulk.store(tx, judged, details or SubjectDetails())
    await catch_up(db, shard)
    return outcomes


def told(outcomes: Sequence[Outcome]) -> list[tuple[str, str, str]]:
    return [(one.subject, one.status, one.reason) for one in outcomes]


async def test_a_batch_is_stored_with_generations_that_follow_each_other_and_is_found(db: Database, shard: LocalShard) -> None:
    outcomes = await bring(db, shard, [given("ann", unit(1)), given("bob", 7 * unit(2)), given("ann", unit(3))])
    assert told(outcomes) == [("ann", "enrolled", ""), ("bob", "enrolled", ""), ("ann", "enrolled", "")]
    assert [one.generation for one in outcomes] == [1, 2, 3]
    assert shard.generation == 3
    answer = await MatcherClient([shard]).search(np.stack([unit(2)]), model=MODEL, collection="default", k=1)
    assert (answer.candidates[0][0].subject, answer.candidates[0][0].reference_id) == ("bob", outcomes[1].reference_id)
    assert answer.candidates[0][0].score == pytest.approx(1, abs=1e-5)


async def test_bringing_a_batch_again_changes_nothing(db: Database, shard: LocalShard) -> None:
    batch = [given("ann", unit(1)), given("bob", unit(2))]
    first = await bring(db, shard, batch)
    again = await bring(db, shard, batch)
    assert told(again) == [("ann", "unchanged", ""), ("bob", "unchanged", "")]
    assert [(one.subject_id, one.reference_id) for one in again] == [(one.subject_id, one.reference_id) for one in first]
    assert shard.generation == 2


async def test_what_is_wrong_with_one_stops_no_other(db: Database, shard: LocalShard) -> None:
    outcomes = await bring(
        db,
        shard,
        [
            given(" ", unit(1)),
            given("nan", np.full(D, np.nan, np.float32)),
            given("zero", np.zeros(D, np.float32)),
            given("short", np.ones(31, np.float32)),
            given("nul", unit(2), attributes={"a": "\x00"}),
            given("good", unit(3)),
            given("copy", unit(3)),
            given("good", unit(3)),
        ],
    )
    assert [(one.status, one.reason) for one in outcomes] == [
        ("rejected", "unsupported"),
        ("rejected", "unreadable"),
        ("rejected", "unreadable"),
        ("rejected", "unsupported"),
        ("rejected", "unsupported"),
        ("enrolled", ""),
        ("rejected", "duplicate"),
        ("rejected", "duplicate_of_same_subject"),
    ]
    assert outcomes[2].detail == "the embedding is zero or not finite; export it again"
    assert outcomes[3].detail == "the embedding has 31 numbers, those of painted have 64"
    assert outcomes[6].detail == "exactly this embedding is enrolled as good; use that name, or erase it there first"


async def test_one_face_under_two_names_is_noticed_in_the_gallery_and_in_the_batch(db: Database, shard: LocalShard) -> None:
    near = unit(1) + 0.02 * unit(9)
    await bring(db, shard, [given("ann", unit(1))])
    outcomes = await bring(
        db, shard, [given("eve", near), given("bob", unit(2)), given("rob", unit(2) + 0.02 * unit(8)), given("ann", near)]
    )
    assert told(outcomes) == [
        ("eve", "rejected", "looks_like_another_subject"),
        ("bob", "enrolled", ""),
        ("rob", "rejected", "looks_like_another_subject"),
        ("ann", "enrolled", ""),
    ]
    assert outcomes[2].detail.startswith("looks like bob (")
    allowed = await bring(db, shard, [given("eve", near + 0.01 * unit(7))], allow_lookalike=True)
    assert told(allowed) == [("eve", "enrolled", "")]


async def test_another_models_embeddings_live_beside_ours(db: Database, shard: LocalShard) -> None:
    outcomes = await bring(db, shard, [given("ann", unit(1)), given("eve", unit(1) + 0.01 * unit(2))], model="theirs")
    assert told(outcomes) == [("ann", "enrolled", ""), ("eve", "enrolled", "")]
    store = GalleryStore(db, forget=forget_subject)
    assert (await store.references(str(outcomes[0].subject_id)))[0].models == ("theirs",)
    with pytest.raises(NotFoundError, match="has no picture: it was imported as an embedding"):
        await store.face_jpeg(str(outcomes[0].reference_id))
    assert await store.count_lacking(MODEL) == 0


async def test_details_go_to_new_subjects_and_are_merged_into_those_that_are_there(db: Database, shard: LocalShard) -> None:
    until = datetime(2030, 1, 1, tzinfo=UTC)
    await bring(db, shard, [given("ann", unit(1), attributes={"team": "red", "floor": 1})])
    batch = [given("ann", unit(2), attributes={"team": "blue"}), given("bob", unit(3))]
    await bring(db, shard, batch, details=SubjectDetails(consent={"purpose": "entry"}, expires_at=until))
    store = GalleryStore(db, forget=forget_subject)
    ann, bob = [one for one in await store.subjects("default")]
    assert (ann.attributes, ann.consent, ann.expires_at) == ({"team": "blue", "floor": 1}, {"purpose": "entry"}, until)
    assert (bob.attributes, bob.consent, bob.expires_at) == ({}, {"purpose": "entry"}, until)
    assert shard.generation == (await store.counts()).generation


async def test_nothing_is_in_the_clear(db: Database, shard: LocalShard) -> None:
    await bring(db, shard, [given("ann", unit(1))])
    (row,) = await db.fetch("select face_jpeg, embedding from reference join reference_embedding using (reference_id)")
    assert unit(1).tobytes()[:16] not in row["embedding"]
    assert db.vault.is_newest(row["embedding"])
    assert db.vault.is_newest(row["face_jpeg"])
