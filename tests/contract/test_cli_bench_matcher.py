"""The benchmark of the matcher at a small size."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from cli.bench.gallery import Oracle, pieces, store_gallery
from cli.bench.matcher import check_nobody_asks
from cli.bench.shards import scaling_figures, storage_figures
from core.adapters.memory_broker import MemoryBroker
from core.errors import UsageError
from core.ports import Broker, Database, QueueSpec
from core.topology import PROBES_EXCHANGE
from matcher.local import open_local_shard
from matcher.rows import Storage
from matcher.shard import Shard
from matcher.snapshot import load_shard


@pytest.mark.parametrize(("storage", "vector"), [("fp32", 128), ("fp16", 64), ("int8", 0)])
def test_a_storage_is_measured_and_found_right(storage: Storage, vector: int, tmp_path: Path) -> None:
    figures = storage_figures(storage, 5000, 32, 1, tmp_path)
    assert figures[f"lone_rank1_agreement_{storage}"][0] > 0.99
    assert figures[f"batch_recall5_{storage}"][0] > 0.99
    codes, int8, slots = 64, 32 + 12, 8
    people = figures[f"computed_bytes_per_reference_{storage}"][0] - (vector + codes + int8 + slots)
    assert 40 < people < 150
    assert figures[f"enrolled_p50_{storage}"][0] > 0


def test_scaling_is_measured() -> None:
    figures = scaling_figures(6000, 16, 1)
    assert figures["cpu_per_probe_1_shards"][0] > figures["cpu_per_probe_4_shards"][0] > 0
    assert figures["shard_scaling"][0] > 0.5


def test_a_gallery_is_the_same_each_time_and_an_oracle_knows_its_nearest() -> None:
    first, again = list(pieces(15_000, 16, seed=3)), list(pieces(15_000, 16, seed=3))
    assert [len(piece.block.subjects) for piece in first] == [12_288, 2712]
    np.testing.assert_array_equal(first[1].block.reference_ids, again[1].block.reference_ids)
    probes = first[1].block.embeddings[:20]
    oracle = Oracle(probes, 3)
    for piece in first:
        oracle.offer(piece)
    everyone = np.concatenate([piece.block.embeddings for piece in first])
    nearest = np.concatenate([piece.block.subject_ids for piece in first])[(probes @ everyone.T).argmax(axis=1)]
    assert [row[0].replace("-", "") for row in oracle.subjects()] == [f"{high:016x}{low:016x}" for high, low in nearest.tolist()]


async def test_a_stored_gallery_is_loaded_whole(db: Database) -> None:
    probes = await store_gallery(db, 13_000, 16, seed=2)
    async with open_local_shard(Shard()) as shard:
        await load_shard(db, shard)
        assert shard.references == 13_000
    assert probes.shape == (128, 16)


async def test_a_broker_that_a_fleet_uses_is_left_alone() -> None:
    broker: Broker = MemoryBroker()
    await check_nobody_asks(broker, listen_s=0.05)

    async def ask() -> None:
        while True:
            await broker.publish(PROBES_EXCHANGE, "", b"probes", confirm=False)
            await asyncio.sleep(0)

    async with broker.subscribe(QueueSpec(name="match", bindings=((PROBES_EXCHANGE, "fanout", ""),))), asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(ask())
        with pytest.raises(UsageError, match=r"^a fleet sends probes over this broker; set SIGHTLINE_BROKER_URL to another"):
            await check_nobody_asks(broker, listen_s=10.0)
        asking.cancel()
