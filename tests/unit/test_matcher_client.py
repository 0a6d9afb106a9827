"""Scatter and gather: shards that are slow, away, or disagree."""

import asyncio

import numpy as np
import pytest

from core.errors import MessageError, UnavailableError
from core.schema import ProbeBatch, ShardAnswer
from matcher.client import BATCH_PROBES, MatcherClient, ShardPort
from matcher.local import LocalShard, open_local_shard
from matcher.numpy_index import NumpyIndex
from matcher.shard import Shard
from tests.builders.fleet import loaded_shard, person
from tests.builders.matcher import MODEL, NOW_S, put, row, unit_rows

VECTORS = unit_rows(80, 8)


class Direct:
    """A shard that is asked in the caller's thread."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard

    async def ask(self, batch: ProbeBatch) -> ShardAnswer:
        return self.shard.search(batch, NOW_S)


class Silent:
    async def ask(self, batch: ProbeBatch) -> ShardAnswer:
        await asyncio.Event().wait()
        raise AssertionError


class Away:
    async def ask(self, batch: ProbeBatch) -> ShardAnswer:
        raise UnavailableError("shard 1: away")


def loaded(shard: int = 0, shards_total: int = 1, *, people: int = 80, generation: int = 3) -> Direct:
    """A shard of a gallery of P0, P1, ...: spread evenly over the buckets."""
    rows = [person(number, VECTORS[number], people=people) for number in range(people)]
    return Direct(loaded_shard(rows, shard, shards_total, generation=generation))


def client(*shards: ShardPort, timeout_s: float = 5.0) -> MatcherClient:
    return MatcherClient(shards, timeout_s=timeout_s)


async def test_candidates_of_all_shards_are_ranked_together() -> None:
    shards = [loaded(0, 2, people=3), loaded(1, 2, people=3, generation=2)]
    answer = await client(*shards).search(VECTORS[2:3], model=MODEL, collection="default", k=2)
    first, second = answer.candidates[0]
    assert (first.subject, first.rank, second.rank) == ("P2", 1, 2)
    assert (answer.generation, answer.shards_missing, answer.references) == (2, 0, 3)


@pytest.mark.parametrize("missing", [Away(), Silent()])
async def test_a_missing_shard_is_counted_and_the_answer_comes_in_time(missing: ShardPort) -> None:
    answer = await client(loaded(0, 2, people=2), missing, timeout_s=0.05).search(VECTORS[:1], model=MODEL, collection="default", k=2)
    assert ([one.subject for one in answer.candidates[0]], answer.shards_missing) == (["P0"], 1)


async def test_no_shard_at_all_is_an_error() -> None:
    with pytest.raises(UnavailableError, match=r"matcher: none of 2 shards answered within 0.05 s; is it loading\?"):
        await client(Away(), Silent(), timeout_s=0.05).search(VECTORS[:1], model=MODEL, collection="default", k=2)


async def test_many_probes_go_in_batches_and_come_back_in_order() -> None:
    assert len(VECTORS) > BATCH_PROBES
    answer = await client(loaded(0, 2), loaded(1, 2)).search(VECTORS, model=MODEL, collection="default", k=1)
    assert [of_probe[0].subject for of_probe in answer.candidates] == [f"P{number}" for number in range(80)]


async def test_no_probes_tell_the_size_of_the_gallery() -> None:
    answer = await client(loaded(people=2)).search(np.zeros((0, 8), np.float32), model=MODEL, collection="default", k=1)
    assert (answer.candidates, answer.references) == ((), 2)


async def test_an_empty_collection_has_no_candidates() -> None:
    answer = await client(loaded()).search(VECTORS[:2], model=MODEL, collection="nobody", k=1)
    assert (answer.candidates, answer.references) == (((), ()), 0)


async def test_a_question_that_makes_no_sense_is_one_error() -> None:
    with pytest.raises(MessageError, match="9 dimensions, model has 8"):
        await client(loaded(0, 2), loaded(1, 2)).search(unit_rows(1, 9), model=MODEL, collection="default", k=1)


class TestLocalShard:
    @pytest.fixture
    async def local(self):
        async with open_local_shard(Shard(new_index=NumpyIndex), now_s=lambda: NOW_S) as local:
            yield local

    async def test_before_the_first_load_it_is_unavailable(self, local: LocalShard) -> None:
        with pytest.raises(UnavailableError, match="none of 1 shards"):
            await client(local).search(VECTORS[:1], model=MODEL, collection="default", k=1)

    async def test_waiting_for_a_generation_ends_when_searches_see_it(self, local: LocalShard) -> None:
        await local.replace(local.empty_gallery(), 0)
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            waiting = group.create_task(local.wait_generation(2, 5))
            await local.apply(put(1, row("s1", 0, VECTORS[1])))
            assert not waiting.done()
            await local.apply(put(2, row("s2", 0, VECTORS[2])))
        answer = await client(local).search(VECTORS[2:3], model=MODEL, collection="default", k=1)
        assert (answer.candidates[0][0].subject, answer.generation) == ("S2", 2)

    async def test_waiting_has_an_end(self, local: LocalShard) -> None:
        with pytest.raises(UnavailableError, match=r"shard 0: at generation -1 of the gallery, 9 not seen within 0\.01 s"):
            await local.wait_generation(9, 0.01)
