"""Generations, expiry and errors of a shard."""

import threading

import numpy as np
import pytest

from core.errors import MessageError
from core.schema import Array, ProbeBatch
from core.types import F32
from matcher.numpy_index import NumpyIndex
from matcher.shard import GenerationGapError, Shard
from tests.builders.matcher import MODEL, NOW_S, batch, delete, id_of, put, row, unit_rows

VECTORS = unit_rows(6, 8)
ANN, BEN = row("ann", 0, VECTORS[0]), row("ben", 0, VECTORS[1])


@pytest.fixture
def shard() -> Shard:
    shard = Shard(new_index=NumpyIndex)
    shard.load([ANN, BEN], 5)
    return shard


def names(shard: Shard, place: int = 0, **options: object) -> list[str]:
    answer = shard.search(batch(VECTORS[place : place + 1], **options), NOW_S)  # type: ignore[arg-type]
    return [one.subject for one in answer.candidates[0]]


def test_changes_apply_in_order(shard: Shard) -> None:
    carl = row("carl", 0, VECTORS[2])
    shard.apply(put(6, carl), delete(7, ANN))
    assert shard.generation == 7
    assert set(names(shard)) == {"BEN", "CARL"}


def test_a_gap_is_told_and_nothing_after_it_applied(shard: Shard) -> None:
    with pytest.raises(GenerationGapError, match="shard 0 is at generation 5, the next change is 7"):
        shard.apply(put(7, row("carl", 0, VECTORS[2])))
    assert shard.generation == 5
    assert "CARL" not in names(shard)


def test_an_old_change_is_passed_over_and_the_same_one_may_come_twice(shard: Shard) -> None:
    shard.apply(delete(3, ANN))
    assert "ANN" in names(shard)
    carl = put(6, row("carl", 0, VECTORS[2]))
    shard.apply(carl, carl)
    assert (shard.generation, shard.sizes()) == (6, {"default": 3})


def test_a_put_of_a_known_reference_replaces_it_and_renames_its_subject(shard: Shard) -> None:
    shard.apply(put(6, ANN.__class__(**{**_fields(ANN), "subject": "Ann B", "embedding": VECTORS[3]})))
    answer = shard.search(batch(VECTORS[3:4]), NOW_S)
    assert (answer.candidates[0][0].subject, answer.references) == ("Ann B", 2)
    assert answer.candidates[0][0].score == pytest.approx(1.0, abs=1e-5)


def test_a_put_without_embedding_only_moves_the_generation(shard: Shard) -> None:
    change = put(6, row("carl", 0, VECTORS[2]))
    shard.apply(change.__class__(**{name: getattr(change, name) for name in change.__struct_fields__} | {"embedding": None}))
    assert (shard.generation, shard.sizes()) == (6, {"default": 2})


def test_consent_ends_at_its_instant(shard: Shard) -> None:
    shard.apply(put(6, row("carl", 0, VECTORS[2], expires_s=NOW_S)))
    probe = batch(VECTORS[2:3])
    assert shard.search(probe, NOW_S - 0.001).candidates[0][0].subject == "CARL"
    assert "CARL" not in [one.subject for one in shard.search(probe, NOW_S).candidates[0]]


def test_validity_begins_at_its_instant_and_is_taken_back_by_a_change(shard: Shard) -> None:
    shard.apply(put(6, row("carl", 0, VECTORS[2], starts_s=NOW_S)))
    probe = batch(VECTORS[2:3])
    assert "CARL" not in [one.subject for one in shard.search(probe, NOW_S - 0.001).candidates[0]]
    assert shard.search(probe, NOW_S).candidates[0][0].subject == "CARL"
    shard.apply(put(7, row("carl", 0, VECTORS[2])))
    assert shard.search(probe, NOW_S - 0.001).candidates[0][0].subject == "CARL"


def test_a_subject_of_another_shard_is_not_kept_but_its_generation_is() -> None:
    shards = [Shard(shard=number, shards_total=2, new_index=NumpyIndex) for number in range(2)]
    for one in shards:
        one.load([ANN, BEN], 5)
        one.apply(put(6, row("carl", 0, VECTORS[2])))
    assert [one.generation for one in shards] == [6, 6]
    assert sum(one.sizes().get("default", 0) for one in shards) == 3


def test_collections_and_models_are_apart(shard: Shard) -> None:
    shard.apply(put(6, row("carl", 0, VECTORS[2], collection="staff")))
    assert names(shard, 2, collection="staff") == ["CARL"]
    assert "CARL" not in names(shard, 2)
    assert names(shard, model="other") == []


def test_no_probes_ask_for_the_size(shard: Shard) -> None:
    answer = shard.search(batch(np.zeros((0, 8), np.float32)), NOW_S)
    assert (answer.candidates, answer.references, answer.generation) == ((), 2, 5)


@pytest.mark.parametrize(
    ("question", "text"),
    [
        (batch(unit_rows(1, 9)), "ProbeBatch b: 9 dimensions, model has 8"),
        (batch(VECTORS[:1], k=0), "ProbeBatch b: k 0, must be 1..1000"),
        (batch(np.full((1, 8), np.nan, np.float32)), "ProbeBatch b: probes hold numbers that are not finite"),
        (batch(VECTORS[0]), "ProbeBatch b: probes: expected NxN float32, got 8 float32"),
        (
            ProbeBatch(batch_id="b", model="m", collection="c", probes=Array("<f4", (1, 8), b"123"), k=1, timeout_s=1.0),
            r"array <f4 \(1, 8\) with 3 bytes: .*",
        ),
    ],
)
def test_a_question_that_makes_no_sense(shard: Shard, question: ProbeBatch, text: str) -> None:
    with pytest.raises(MessageError, match=f"^{text}$"):
        shard.search(question, NOW_S)


@pytest.mark.parametrize(
    ("vector", "problem"),
    [
        (unit_rows(1, 9)[0], "has 9 numbers, expected 8"),
        (np.full(8, np.nan, np.float32), "holds numbers that are not finite"),
        (np.zeros(0, np.float32), "is empty"),
    ],
    ids=["length", "not finite", "empty"],
)
def test_an_embedding_that_cant_be_used_is_left_out_and_the_rest_goes_on(shard: Shard, vector: F32, problem: str) -> None:
    shard.apply(put(6, row("carl", 0, vector)), put(7, row("dora", 0, VECTORS[3])))
    assert (shard.generation, shard.sizes()) == (7, {"default": 3})
    assert shard.damaged() == {(id_of("carl/0"), MODEL): problem}
    shard.apply(put(8, row("carl", 0, VECTORS[2])))
    assert (shard.damaged(), shard.sizes()) == ({}, {"default": 4})


def test_a_damaged_embedding_takes_the_place_of_the_one_before(shard: Shard) -> None:
    """As in a shard that loads now: replicas must not differ in what they have."""
    shard.apply(put(6, row("ann", 0, np.full(8, np.inf, np.float32))))
    assert (names(shard), list(shard.damaged())) == (["BEN"], [(id_of("ann/0"), MODEL)])
    shard.apply(delete(7, ANN))
    assert shard.damaged() == {}


def test_bytes_that_are_no_embedding_are_left_out(shard: Shard) -> None:
    change = put(6, row("carl", 0, VECTORS[2]))
    fields = {name: getattr(change, name) for name in change.__struct_fields__}
    shard.apply(change.__class__(**fields | {"embedding": Array("<f4", (1,), b"123")}))
    assert (shard.generation, list(shard.damaged().values())) == (6, ["is empty"])


def test_a_search_sees_all_of_a_change_or_nothing() -> None:
    """A writer swaps two subjects in one apply; a reader must always see exactly one of them."""
    shard = Shard(new_index=NumpyIndex)
    shard.load([ANN], 0)
    seen: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(len(names(shard)))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        present, absent = ANN, BEN
        for generation in range(1, 400, 2):
            shard.apply(delete(generation, present), put(generation + 1, absent))
            present, absent = absent, present
    finally:
        done.set()
        reader.join()
    assert set(seen) == {1}


def _fields(reference: object) -> dict[str, object]:
    return {name: getattr(reference, name) for name in reference.__slots__}  # type: ignore[attr-defined]
