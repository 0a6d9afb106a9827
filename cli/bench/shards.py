"""What shards cost in one process: memory and search by storage, CPU by number of shards. Each function is run in a fresh process."""

import gc
import re
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np

from cli.bench.gallery import COLLECTION, MODEL, Oracle, fill, pieces
from cli.bench.report import Figures
from core.schema import Array, ProbeBatch, decode, encode
from core.types import F32
from matcher.memory import give_back
from matcher.rows import Storage
from matcher.shard import Shard

BATCH: Final = 64
K: Final = 5
LONE_PROBES: Final = 256
STRANGERS: Final = 128
ROUNDS: Final = 24
SCALING_SHARDS: Final = (1, 2, 4)
STATUS: Final = Path("/proc/self/status")


def in_fresh_process(work: Callable[..., Figures], *args: Any) -> Figures:
    """Run work in a process of its own, whose memory and BLAS nobody used before."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_one_blas_thread) as executor:
        return executor.submit(work, *args).result()


def storage_figures(storage: Storage, references: int, dimensions: int, seed: int, directory: Path) -> Figures:
    """Fill one shard; return its memory per reference, how fast it searches, and whether it finds what the oracle finds."""
    _warm_up(storage, dimensions, directory)
    before = _memory()
    shard = Shard(storage=storage, directory=directory)
    gallery = shard.empty_gallery()
    gallery.reserve(COLLECTION, MODEL, dimensions=dimensions, references=references)
    probes: list[F32] = []
    oracle: Oracle | None = None
    fill_cpu_s = 0.0
    for piece in pieces(references, dimensions, seed=seed, probes=LONE_PROBES):
        started_s = time.process_time()
        gallery.put_block(piece.block)
        fill_cpu_s += time.process_time() - started_s
        if oracle is None:
            strangers = np.concatenate([piece.people.strangers] * -(-STRANGERS // len(piece.people.strangers)))[:STRANGERS]
            probes = [piece.people.probes[:LONE_PROBES], strangers]
            oracle = Oracle(np.concatenate(probes), K)
        oracle.offer(piece)
    assert oracle is not None
    computed = gallery.bytes_used
    shard.replace(gallery, 0)
    del gallery, piece
    anonymous = _memory()["RssAnon"] - before["RssAnon"]
    figures: Figures = {
        "bytes_per_reference": (anonymous / references, "bytes"),
        "computed_bytes_per_reference": (computed / references, "bytes"),
        "file_bytes_per_reference": (4.0 * dimensions if storage == "int8" else 0.0, "bytes"),
        "fill_cpu": (1e6 * fill_cpu_s / references, "us"),
        **_search_figures(shard, *probes),
        **_agreement(shard, np.concatenate(probes), oracle.subjects()),
    }
    return {f"{name}_{storage}": value for name, value in figures.items()}


def scaling_figures(references: int, dimensions: int, seed: int) -> Figures:
    """Return the CPU time per probe and shard when one gallery is on 1, 2 and 4 shards: search, with reading question, writing answer.

    One shard of each layout is measured, in turns, so that all meet the same load of the machine.
    """
    shards = {total: Shard(shard=total - 1, shards_total=total) for total in SCALING_SHARDS}
    galleries = {total: shard.empty_gallery() for total, shard in shards.items()}
    for total, gallery in galleries.items():
        gallery.reserve(COLLECTION, MODEL, dimensions=dimensions, references=int(1.05 * references / total))
    probes: list[F32] = []
    for piece in pieces(references, dimensions, seed=seed):
        for total, gallery in galleries.items():
            fill(gallery, piece.block, shards[total].buckets)
        probes.append(piece.people.probes)
    for total, shard in shards.items():
        shard.replace(galleries[total], 0)
    everyone = np.random.default_rng(seed).permutation(np.concatenate(probes))
    spent: dict[int, list[float]] = {total: [] for total in SCALING_SHARDS}
    for turn in range(ROUNDS + 1):
        question = _question(np.roll(everyone, -turn * BATCH, axis=0)[:BATCH])
        for total, shard in shards.items():
            started_s = time.thread_time()
            _answer(shard, question)
            spent[total].append(1e6 * (time.thread_time() - started_s) / BATCH)
    turns = {total: np.array(values[1:]) for total, values in spent.items()}  # the first warms up
    return {
        **{f"cpu_per_probe_{total}_shards": (float(np.median(values)), "us") for total, values in turns.items()},
        "shard_scaling_2": (float(np.median(2 * turns[2] / turns[1])), "ratio"),
        "shard_scaling": (float(np.median(4 * turns[4] / turns[1])), "ratio"),
    }


def _search_figures(shard: Shard, enrolled: F32, strangers: F32) -> Figures:
    lone = {"enrolled": enrolled, "stranger": strangers}
    figures: Figures = {}
    for name, probes in lone.items():
        shard.search(_batch(probes[:1]), 0.0)
        times_ms = [_timed_ms(shard, probes[place : place + 1]) for place in range(len(probes))]
        figures |= {f"{name}_p{percent}": (float(np.percentile(times_ms, percent)), "ms") for percent in (50, 95)}
    together = np.concatenate([enrolled, strangers])
    shard.search(_batch(together[:BATCH]), 0.0)
    times_ms = [_timed_ms(shard, np.roll(together, -turn * BATCH, axis=0)[:BATCH]) / BATCH for turn in range(ROUNDS)]
    return figures | {f"batch64_per_probe_p{percent}": (float(np.percentile(times_ms, percent)), "ms") for percent in (50, 95)}


def _agreement(shard: Shard, probes: F32, expected: list[list[str]]) -> Figures:
    """Compare the nearest subjects with the oracle's: of lone probes and of batches."""
    lone = [shard.search(_batch(probe[None]), 0.0).candidates[0] for probe in probes]
    batches = [row for first in range(0, len(probes), BATCH) for row in shard.search(_batch(probes[first : first + BATCH]), 0.0).candidates]
    wanted = [set(row) for row in expected]
    return {
        "lone_rank1_agreement": (float(np.mean([row[0].subject_id == own[0] for row, own in zip(lone, expected, strict=True)])), "ratio"),
        "batch_recall5": (
            float(np.mean([len({one.subject_id for one in row} & own) / K for row, own in zip(batches, wanted, strict=True)])),
            "ratio",
        ),
    }


def _timed_ms(shard: Shard, probes: F32) -> float:
    batch = _batch(probes)
    started_s = time.perf_counter()
    shard.search(batch, 0.0)
    return 1e3 * (time.perf_counter() - started_s)


def _batch(probes: F32) -> ProbeBatch:
    return ProbeBatch(batch_id="bench", model=MODEL, collection=COLLECTION, probes=Array.pack(probes), k=K, timeout_s=1.0)


def _question(probes: F32) -> bytes:
    return encode(_batch(probes))


def _answer(shard: Shard, question: bytes) -> None:
    """Do what a matcher does between a delivery and a publication."""
    batch, _ = decode(ProbeBatch, question)
    encode(shard.search(batch, 0.0))


def _warm_up(storage: Storage, dimensions: int, directory: Path) -> None:
    """Load every library and let it take its own memory, so that what is measured afterwards is the gallery."""
    shard = Shard(storage=storage, directory=directory)
    gallery = shard.empty_gallery()
    for piece in pieces(6000, dimensions, seed=0):
        gallery.put_block(piece.block)
        shard.replace(gallery, 0)
        for probes in (piece.people.probes[:1], piece.people.probes[:BATCH]):
            shard.search(_batch(probes), 0.0)


def _memory() -> dict[str, int]:
    """Return the resident memory in bytes: RssAnon, and RssFile, which the system may take back. Linux only, elsewhere 0."""
    gc.collect()
    give_back()
    text = STATUS.read_text() if STATUS.exists() else ""
    return {name: 1024 * int(found[1]) if (found := re.search(rf"{name}:\s+(\d+)", text)) else 0 for name in ("RssAnon", "RssFile")}


def _one_blas_thread() -> None:
    """As in a matcher, see matcher/local.py."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, user_api="blas")
