"""A shard that loads from and follows a real PostgreSQL."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import numpy as np
import pytest

from core.errors import MessageError
from core.ports import Database
from core.types import F32
from matcher.client import MatcherClient
from matcher.local import LocalShard, open_local_shard
from matcher.shard import Shard
from matcher.snapshot import CHANNEL, catch_up, follow_gallery, load_shard
from tests.builders.matcher import MODEL, NOW_S, unit_rows

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
            await tx.execute("insert into reference_embedding values ($1, $2, $3)", reference, model, vector.astype("<f4").tobytes())
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


async def test_a_damaged_embedding_is_named(db: Database, shard: LocalShard) -> None:
    reference = await enrol(db, "ann", VECTORS[0])
    await db.execute("update reference_embedding set embedding = '\\x0102'")
    with pytest.raises(MessageError, match=f"reference {reference}: its embedding by model has 2 bytes: embed it again"):
        await load_shard(db, shard)


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
