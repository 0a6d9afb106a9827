"""A shard that loads from and follows a real PostgreSQL."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from core.errors import UnavailableError
from core.metrics import Metrics
from core.ports import Database
from core.types import F32
from core.vault import seal_embedding
from matcher.buckets import bucket_of
from matcher.client import MatcherClient
from matcher.loading import parts_of
from matcher.local import LocalShard, open_local_shard
from matcher.shard import Shard
from matcher.snapshot import CHANNEL, catch_up, follow_gallery, load_shard
from tests.builders.matcher import MODEL, NOW_S, batch, unit_rows

VECTORS = unit_rows(8, 8)


@pytest.fixture
async def shard() -> AsyncIterator[LocalShard]:
    async with open_local_shard(Shard(), now_s=lambda: NOW_S) as local:
        yield local


async def enrol(db: Database, name: str, vector: F32, *, models: tuple[str, ...] = (MODEL,), expires_s: float | None = None) -> uuid.UUID:
    """Enrol one reference as enrollment/ does, in one transaction with its change; return the reference's id."""
    reference = uuid.uuid4()
    async with db.transaction() as tx:
        expires_at = None if expires_s is None else datetime.fromtimestamp(expires_s, UTC)
        subject = (
            await tx.fetch(
                "insert into subject (collection, name, expires_at) values ('default', $1, $2) returning subject_id", name, expires_at
            )
        )[0]["subject_id"]
        await tx.execute(
            "insert into reference (reference_id, subject_id, content_sha256, source, face_jpeg, landmarks, quality) "
            "values ($1, $2, $3, 'photo', $4, $5, 1)",
            reference,
            subject,
            bytes(32),
            b"jpeg",
            [0.0] * 10,
        )
        for model in models:
            await tx.execute(
                "insert into reference_embedding values ($1, $2, $3)", reference, model, seal_embedding(db.vault, reference, vector)
            )
        await tell(tx, "put", subject, reference)
    return reference


async def erase(db: Database, reference: uuid.UUID) -> None:
    async with db.transaction() as tx:
        subject = (await tx.fetch("select subject_id from reference where reference_id = $1", reference))[0]["subject_id"]
        await tell(tx, "delete", subject, reference)
        await tx.execute("delete from subject where subject_id = $1", subject)


async def tell(tx: Database, action: str, subject: uuid.UUID, reference: uuid.UUID) -> None:
    generation = (await tx.fetch("update gallery_generation set generation = generation + 1 returning generation"))[0]["generation"]
    await tx.execute(
        "insert into gallery_change (generation, action, collection, subject_id, reference_id) values ($1, $2, 'default', $3, $4)",
        generation,
        action,
        subject,
        reference,
    )
    await tx.execute("select pg_notify($1, $2)", CHANNEL, str(generation))


async def names(shard: LocalShard, model: str = MODEL) -> set[str]:
    answer = await MatcherClient([shard]).search(VECTORS[:1], model=model, collection="default", k=8)
    return {one.subject for one in answer.candidates[0]}


async def test_a_load_takes_everyone_with_their_expiry_and_models(db: Database, shard: LocalShard) -> None:
    await enrol(db, "ann", VECTORS[0], models=(MODEL, "other"))
    await enrol(db, "ben", VECTORS[1], expires_s=NOW_S + 1)
    await enrol(db, "carl", VECTORS[2], expires_s=NOW_S - 1)
    assert await load_shard(db, shard) == shard.generation == 3
    assert await names(shard) == {"ann", "ben"}
    assert await names(shard, "other") == {"ann"}


async def test_validity_is_enforced_at_its_instants_without_a_reload(db: Database) -> None:
    for name, vector in zip(("ann", "ben", "carl"), VECTORS, strict=False):
        await enrol(db, name, vector)
    await db.execute("update subject set valid_from = to_timestamp($1) where name = 'ann'", NOW_S + 10)
    await db.execute("update subject set expires_at = to_timestamp($1) where name = 'ben'", NOW_S + 20)
    consent = {"purpose": "door", "expires_at": datetime.fromtimestamp(NOW_S + 5, UTC).isoformat()}
    now_s = NOW_S
    async with open_local_shard(Shard(), now_s=lambda: now_s) as shard:
        await load_shard(db, shard)
        assert await names(shard) == {"ben", "carl"}
        async with db.transaction() as tx:  # as enrollment tells a changed consent
            rows = await tx.fetch("update subject set consent = $1 where name = 'carl' returning subject_id", consent)
            (reference,) = await tx.fetch("select reference_id from reference where subject_id = $1", rows[0]["subject_id"])
            await tell(tx, "put", rows[0]["subject_id"], reference["reference_id"])
        await catch_up(db, shard)
        seen = {}
        for second in (0, 4.9, 5, 9.9, 10, 19.9, 20):
            now_s = NOW_S + second
            seen[second] = "".join(sorted(name[0] for name in await names(shard)))
    assert seen == {0: "bc", 4.9: "bc", 5: "b", 9.9: "b", 10: "ab", 19.9: "ab", 20: "a"}


async def test_changes_are_caught_up_with(db: Database, shard: LocalShard) -> None:
    ann = await enrol(db, "ann", VECTORS[0])
    await load_shard(db, shard)
    await enrol(db, "ben", VECTORS[1], models=(MODEL, "other"))
    await erase(db, ann)
    await catch_up(db, shard)
    assert (shard.generation, await names(shard), await names(shard, "other")) == (3, {"ben"}, {"ben"})


async def test_someone_enrolled_and_erased_meanwhile_is_passed_over(db: Database, shard: LocalShard) -> None:
    await load_shard(db, shard)
    await erase(db, await enrol(db, "ann", VECTORS[0]))
    await catch_up(db, shard)
    assert (shard.generation, await names(shard)) == (2, set())


async def test_a_gap_loads_everything_again(db: Database, shard: LocalShard) -> None:
    await load_shard(db, shard)
    await enrol(db, "ann", VECTORS[0])
    await enrol(db, "ben", VECTORS[1])
    await db.execute("delete from gallery_change where generation = 1")
    await catch_up(db, shard)
    assert (shard.generation, await names(shard)) == (2, {"ann", "ben"})


async def test_trimmed_changes_load_everything_again(db: Database, shard: LocalShard) -> None:
    await load_shard(db, shard)
    await enrol(db, "ann", VECTORS[0])
    await db.execute("delete from gallery_change")
    await catch_up(db, shard)
    assert (shard.generation, await names(shard)) == (1, {"ann"})


async def test_a_restored_database_loads_everything_again(db: Database, shard: LocalShard) -> None:
    await enrol(db, "ann", VECTORS[0])
    await load_shard(db, shard)
    await db.execute("truncate subject cascade")
    await db.execute("update gallery_generation set generation = 0")
    await catch_up(db, shard)
    assert (shard.generation, await names(shard)) == (0, set())


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        (b"\1\2", "has 2 bytes, expected 65"),
        (b"", "has 0 bytes, expected 65"),
        (b"\1\2\3\4", "has 4 bytes, expected 65"),
        (bytes(65), "can't be opened: another key has sealed it, or it is damaged"),
        (np.full(8, np.nan, np.float32), "holds numbers that are not finite"),
    ],
    ids=["odd", "empty", "short", "closed", "not finite"],
)
async def test_a_damaged_embedding_is_left_out_named_and_counted(db: Database, stored: bytes | F32, problem: str) -> None:
    metrics = Metrics()
    async with open_local_shard(Shard(), metrics=metrics, now_s=lambda: NOW_S) as shard:
        damaged = await enrol(db, "ann", VECTORS[0])
        value = stored if isinstance(stored, bytes) else seal_embedding(db.vault, damaged, stored)
        await db.execute("update reference_embedding set embedding = $1", value)
        await enrol(db, "ben", VECTORS[1])
        await enrol(db, "carl", VECTORS[2])
        with capture_logs() as logs:
            assert await load_shard(db, shard) == 3
            await load_shard(db, shard)
        assert await names(shard) == {"ben", "carl"}
        told = [(one["reference"], one["problem"]) for one in logs if "left out" in one["event"]]
        assert told == [(str(damaged), problem)]
        assert metrics.gallery_damaged.labels("0/1")._value.get() == 1
        mended = seal_embedding(db.vault, damaged, VECTORS[0])
        await db.execute("update reference_embedding set embedding = $1 where reference_id = $2", mended, damaged)
        await load_shard(db, shard)
        assert metrics.gallery_damaged.labels("0/1")._value.get() == 0
        assert await names(shard) == {"ann", "ben", "carl"}


async def test_a_damaged_change_does_not_stop_the_ones_behind_it(db: Database, shard: LocalShard) -> None:
    await enrol(db, "ann", VECTORS[0])
    await load_shard(db, shard)
    ben = await enrol(db, "ben", VECTORS[1])
    await db.execute("update reference_embedding set embedding = '\\x010203' where reference_id = $1", ben)
    await enrol(db, "carl", VECTORS[2])
    await catch_up(db, shard)
    assert (shard.generation, await names(shard)) == (3, {"ann", "carl"})


async def fill(db: Database, subjects: int, each: int, *, dimensions: int = 8) -> None:
    """Enrol many people at once, at generation 7."""
    await db.execute(
        "insert into subject (collection, name, expires_at) select 'default', 'p' || n, "
        "case when n % 10 = 0 then to_timestamp($2) end from generate_series(1, $1) n",
        subjects,
        NOW_S - 1,
    )
    await db.execute(
        "insert into reference (reference_id, subject_id, content_sha256, source, face_jpeg, landmarks, quality) "
        "select gen_random_uuid(), subject_id, '', '', '', array_fill(0::real, array[10]), 1 from subject, generate_series(1, $1)",
        each,
    )
    rows = await db.fetch("select reference_id from reference")
    vectors = unit_rows(len(rows), dimensions, 3)
    ids = [one["reference_id"] for one in rows]
    sealed = [(key, MODEL, seal_embedding(db.vault, key, vector)) for key, vector in zip(ids, vectors, strict=True)]
    await db.executemany("insert into reference_embedding values ($1, $2, $3)", sealed)
    await db.execute("update gallery_generation set generation = 7")


@pytest.mark.parametrize("connections", [1, 3])
async def test_shards_load_disjoint_parts_that_are_everything_and_tell_their_progress(db: Database, connections: int) -> None:
    await fill(db, 900, 4)
    merged: list[set[str]] = []
    for number in range(3):
        told: list[tuple[int, int]] = []
        async with open_local_shard(Shard(shard=number, shards_total=3), now_s=lambda: NOW_S) as shard:
            assert await load_shard(db, shard, connections=connections, on_progress=lambda *at: told.append(at)) == 7  # noqa: B023
            answer = await shard.ask(batch(VECTORS[:1], k=1000))
        merged.append({one.subject_id for one in answer.candidates[0]})
        assert told[0] == (0, answer.references)
        assert told[-1] == (answer.references, answer.references)
        assert [at for at, _ in told] == sorted(at for at, _ in told)
        assert all(bucket_of(subject) in shard.buckets for subject in merged[-1])
    assert sum(map(len, merged)) == len(set.union(*merged)) == 810  # a tenth has expired


async def test_all_connections_read_one_snapshot(db: Database, shard: LocalShard) -> None:
    """A change that commits while parts are read is in none of them: it comes as a change afterwards."""
    await fill(db, 900, 8)
    erased = False

    def erase_all(_loaded: int, _total: int) -> None:
        nonlocal erased
        if not erased:
            erased = True
            tasks.append(asyncio.create_task(db.execute("delete from subject")))

    tasks: list[asyncio.Task[int]] = []
    await load_shard(db, shard, connections=3, on_progress=erase_all)
    await asyncio.gather(*tasks)
    assert shard.references == 7200


async def test_a_load_that_is_cut_off_leaves_the_old_gallery_answering(db: Database, shard: LocalShard) -> None:
    await fill(db, 900, 8)
    await load_shard(db, shard)
    await db.execute("update gallery_generation set generation = 8")

    def cut(loaded: int, _total: int) -> None:
        if loaded:
            raise UnavailableError("database: no answer")

    with pytest.raises(UnavailableError, match=r"^database: no answer$"):
        await load_shard(db, shard, connections=3, on_progress=cut)
    assert (shard.generation, shard.references) == (7, 7200)
    assert len(await names(shard)) == 8
    assert await load_shard(db, shard) == 8


async def test_int8_loads_into_a_file_and_says_when_there_is_no_room(db: Database, tmp_path: Path) -> None:
    await fill(db, 300, 4)
    async with open_local_shard(Shard(storage="int8", directory=tmp_path), now_s=lambda: NOW_S) as shard:
        assert await load_shard(db, shard) == 7
        assert shard.references == 1200
    (tmp_path / "note").write_text("")
    async with open_local_shard(Shard(storage="int8", directory=tmp_path / "note")) as shard:
        with pytest.raises(UnavailableError, match=r"matcher: can't keep embeddings in a file in .*note: File exists"):
            await load_shard(db, shard)
        assert shard.generation == -1


def test_parts_cover_every_bucket_once_and_are_of_one_size() -> None:
    counts = {0: 10, 1: 20, 2: 5000, 3: 900, 4: 300, 1023: 1}
    parts = list(parts_of(counts, 1000))
    runs = [(part.subjects[0].int >> 118, part.subjects[1].int >> 118) for part in parts]
    assert runs == [(0, 1), *[(2, 2)] * 5, (3, 3), (4, 1023)]
    edges = [(part.references[0].int, part.references[1].int) for part in parts[1:6]]
    assert (edges[0][0], edges[-1][1]) == (0, 2**128 - 1)
    assert all(last + 1 == first for (_, last), (first, _) in pairwise(edges))


@pytest.mark.parametrize("poll_s", [30.0, 0.02], ids=["notified", "polled"])
async def test_a_follower_sees_an_enrolment_and_an_erasure(db: Database, shard: LocalShard, poll_s: float) -> None:
    following = asyncio.create_task(follow_gallery(db, shard, poll_s=poll_s))
    try:
        await shard.wait_generation(0, 10)
        ann = await enrol(db, "ann", VECTORS[0])
        await shard.wait_generation(1, 10)
        assert await names(shard) == {"ann"}
        await erase(db, ann)
        await shard.wait_generation(2, 10)
        assert await names(shard) == set()
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


async def test_a_follower_goes_on_when_its_connection_is_cut(db: Database, shard: LocalShard) -> None:
    following = asyncio.create_task(follow_gallery(db, shard, poll_s=0.05))
    try:
        await shard.wait_generation(0, 10)
        await db.execute("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and query ilike 'listen%'")
        await enrol(db, "ann", VECTORS[0])
        await shard.wait_generation(1, 10)
        assert np.allclose(
            (await MatcherClient([shard]).search(VECTORS[:1], model=MODEL, collection="default", k=1)).candidates[0][0].score, 1
        )
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
