"""Storages fp32, fp16 and int8 against the oracle, and tables of ids and rows against plain dicts and arrays."""

import os
import resource
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import MessageError, UnavailableError
from core.types import F32
from matcher.faiss_index import EXACT_ROWS, FaissIndex
from matcher.ids import IdTable, id_texts, pack_ids
from matcher.memory import SMALL_BYTES, FileTable, MemoryTable
from matcher.numpy_index import NumpyIndex
from matcher.rotation import rotate, rotated_length, rotation_error
from matcher.rows import Rows, Storage
from tests.builders.matcher import unit_rows

STORAGES: tuple[Storage, ...] = ("fp32", "fp16", "int8")
TIE = 1e-6  # scores this near are equal within float32's rounding


def kept(rows: F32, storage: Storage) -> F32:
    """Return the rows as a storage keeps them: its scores are exact for these."""
    return rows.astype(np.float16).astype(np.float32) if storage == "fp16" else rows


def people(count: int, dimensions: int, seed: int) -> F32:
    """Return clustered rows: about three views of each of many people."""
    rng = np.random.default_rng(seed)
    rows = unit_rows(max(count // 3, 1), dimensions, seed)[rng.integers(0, max(count // 3, 1), count)]
    rows = rows + unit_rows(count, dimensions, seed + 1) * np.float32(0.8)
    unit: F32 = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("count", [900, EXACT_ROWS + 1500], ids=["few", "many"])
@pytest.mark.parametrize("k", [1, 7, 60])
def test_a_batch_is_the_oracles_in_every_storage_after_changes(storage: Storage, count: int, k: int, tmp_path: Path) -> None:
    rows, views = people(count, 96, 1), people(400, 96, 2)
    index, oracle = FaissIndex(96, storage=storage, directory=tmp_path), NumpyIndex(96)
    index.reserve(count // 2)
    ours = np.concatenate([index.add(part) for part in np.array_split(rows, 5)])
    theirs = oracle.add(kept(rows, storage))
    index.update(ours[:300], views[:300])
    oracle.update(theirs[:300], kept(views[:300], storage))
    index.delete(ours[250:800:3])
    oracle.delete(theirs[250:800:3])
    probes = np.concatenate([views[:40], rows[-60:], unit_rows(20, 96, 7)])
    found, scores = index.search(probes, k)
    expected, expected_scores = oracle.search(probes, k)
    np.testing.assert_allclose(scores, expected_scores, atol=TIE)
    to_theirs = dict(zip(ours.tolist(), theirs.tolist(), strict=True))
    for place in range(len(probes)):
        sure = expected_scores[place] > expected_scores[place, -1] + TIE
        assert set(expected[place, sure]) <= {to_theirs[slot] for slot in found[place].tolist()}


@pytest.mark.parametrize("storage", STORAGES)
def test_rank_1_of_a_lone_probe_is_the_oracles_in_every_storage(storage: Storage, tmp_path: Path) -> None:
    rows = people(EXACT_ROWS + 4000, 128, 3)
    index = FaissIndex(128, storage=storage, directory=tmp_path)
    slots = index.add(rows)
    for probe in np.concatenate([people(len(rows), 128, 3)[::200], unit_rows(20, 128, 5)]):
        found, scores = index.search(probe[None], 3)
        exact = kept(rows, storage) @ probe
        assert found[0, 0] == slots[exact.argmax()]
        assert scores[0, 0] == pytest.approx(exact.max(), abs=TIE)


def test_half_precision_moves_scores_by_less_than_half_a_thousandth() -> None:
    rows, probes = people(3000, 512, 1), people(3000, 512, 1)[:50]
    assert np.abs(kept(rows, "fp16") @ probes.T - rows @ probes.T).max() < 5e-4


@pytest.mark.parametrize(("storage", "memory", "file"), [("fp32", 2048, 0), ("fp16", 1024, 0), ("int8", 0, 2048)])
def test_a_storage_keeps_what_it_says(storage: Storage, memory: int, file: int, tmp_path: Path) -> None:
    index = FaissIndex(512, storage=storage, directory=tmp_path)
    index.add(unit_rows(100, 512))
    codes, int8, slots = 64, 512 + 12, 8
    assert (index.bytes_used, index.file_bytes) == (100 * (memory + codes + int8 + slots), 100 * file)


class TestFile:
    """Vectors of storage int8."""

    def test_the_file_has_no_name_so_that_nothing_outlives_the_process(self, tmp_path: Path) -> None:
        table = FileTable(16, np.float32, tmp_path)
        table.reserve(1000)
        table.write(slice(0, 1000), unit_rows(1000, 16))
        assert list(tmp_path.iterdir()) == []

    def test_an_erased_row_is_zero_in_the_file(self, tmp_path: Path) -> None:
        rows = Rows(16, 0, int8=True, storage="int8", directory=tmp_path)
        vectors = unit_rows(10, 16)
        slots, _ = rows.append(vectors)
        rows.remove(slots[[2, 4, 5, 6, 7, 8]])
        whole = _unlinked_file(tmp_path)
        np.testing.assert_array_equal(whole[: 4 * 16], vectors[[0, 1, 9, 3]].ravel())
        assert not whole[4 * 16 :].any()
        np.testing.assert_array_equal(rows.vectors, vectors[[0, 1, 9, 3]])

    def test_no_room_is_an_error_of_one_line_and_adds_nothing(self, tmp_path: Path) -> None:
        rows = Rows(16, 0, int8=True, storage="int8", directory=tmp_path)
        slots, _ = rows.append(unit_rows(10, 16))
        with (
            _no_room(),
            pytest.raises(UnavailableError, match=r"^matcher: can't keep embeddings in a file in .*; free space, set data_dir"),
        ):
            rows.append(unit_rows(100_000, 16))
        assert len(rows) == 10
        np.testing.assert_array_equal(rows.vectors, unit_rows(10, 16))
        more, _ = rows.append(unit_rows(5, 16, 1))
        assert len(set(more.tolist()) | set(slots.tolist())) == 15

    def test_a_folder_that_is_none_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "note").write_text("")
        table = FileTable(4, np.float32, tmp_path / "note")
        with pytest.raises(UnavailableError, match=r"in .*note: File exists; free space"):
            table.reserve(1)


@pytest.mark.parametrize(
    "new_table", [lambda: MemoryTable(24, np.float32), lambda: FileTable(24, np.float32, None)], ids=["memory", "file"]
)
def test_a_table_grows_and_keeps_its_rows(new_table: Callable[[], MemoryTable | FileTable]) -> None:
    table, rows = new_table(), unit_rows(90_000, 24)
    for first, last in ((0, 3), (3, 600), (600, 601), (601, 30_000), (30_000, 90_000)):
        table.reserve(last)
        table.write(np.arange(first, last), rows[first:last])
    table.write(np.array([5, 89_999, 1]), rows[[7, 8, 9]])
    expected = rows.copy()
    expected[[5, 89_999, 1]] = rows[[7, 8, 9]]
    np.testing.assert_array_equal(table.array[:90_000], expected)
    assert not table.array[90_000:].any()


def test_a_table_that_somebody_looks_at_grows_by_a_copy() -> None:
    table = MemoryTable(1024, np.uint8)
    table.reserve(SMALL_BYTES)
    table.write(slice(0, 2), 7)
    view = table.array[:2]
    table.reserve(3 * SMALL_BYTES)
    assert len(table.array) >= 3 * SMALL_BYTES
    assert (table.array[:2] == 7).all()
    assert (view == 7).all()


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=60), spread=st.sampled_from([1, 2**32, 2**64 + 1]))
def test_an_id_table_is_a_dict(steps: list[tuple[bool, int]], spread: int) -> None:
    """Also for ids that count upwards, in either half."""
    table, expected = IdTable(), dict[str, int]()
    free = list(range(200))
    for adds, number in steps:
        ids = [str(uuid.UUID(int=(number * 3 + step) * spread)) for step in range(3)]
        if adds:
            new = [one for one in ids if one not in expected]
            numbers = [free.pop(0) for _ in new]
            table.put(pack_ids(new, "id"), np.array(numbers, np.int64))
            expected |= dict(zip(new, numbers, strict=True))
        else:
            for one in ids:
                if one in expected:
                    table.remove(expected[one])
                    free.append(expected.pop(one))
    everything = [str(uuid.UUID(int=number * spread)) for number in range(190)]
    assert table.find(pack_ids(everything, "id")).tolist() == [expected.get(one, -1) for one in everything]
    assert len(table) == len(expected)
    given_numbers = np.array(sorted(expected.values()), np.int64)
    assert sorted(id_texts(table.ids(given_numbers))) == sorted(expected)


def test_an_id_table_forgets_ids_and_does_not_grow_by_coming_and_going() -> None:
    table = IdTable()
    for number in range(5000):
        table.put(pack_ids([str(uuid.UUID(int=number))], "id"), np.array([0]))
        table.remove(0)
    assert table.bytes_used < 1000
    assert not table.ids(np.array([0])).any()


def test_an_id_that_is_none_is_named() -> None:
    with pytest.raises(MessageError, match=r"^subject: an id is no UUID: badly formed"):
        pack_ids(["ann"], "subject")


@pytest.mark.parametrize("dimensions", [1, 2, 3, 6, 96, 128, 512, 700])
def test_a_rotation_keeps_products_within_its_bound(dimensions: int) -> None:
    rows = np.concatenate([unit_rows(50, dimensions), np.eye(dimensions, dtype=np.float32)[:5]])
    rotated = rotate(rows).astype(np.float64)
    assert rotated.shape[1] == rotated_length(dimensions)
    exact = rows.astype(np.float64) @ rows.T.astype(np.float64)
    assert np.abs(rotated @ rotated.T - exact).max() <= 2 * rotation_error(dimensions) * 1.01
    assert rotation_error(dimensions) < 1e-4


@contextmanager
def _no_room() -> Iterator[None]:
    """Let no file of this process grow meanwhile: what the kernel says then is what it says of a full disk, but for the number."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _unlinked_file(directory: Path) -> F32:
    """Return what is in this process's file without a name in a folder."""
    links = {int(fd.name): os.readlink(fd) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()}
    descriptor = next(fd for fd, target in links.items() if target.startswith(str(directory)) and "deleted" in target)
    return np.frombuffer(os.pread(descriptor, os.fstat(descriptor).st_size, 0), np.float32)
