"""``sightline bench match``: the matcher's index beside FAISS's IndexFlatIP as installed, on one core, in one run."""

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from cli.bench.report import Figures, emit_report
from cli.output import JSON_OPTION, console

if TYPE_CHECKING:
    from cli.bench.people import People
    from core.types import F32
    from matcher.faiss_index import FaissIndex, FlatBaseline
    from matcher.index import I64

R = TypeVar("R")
BATCH = 64
K = 5
SHARD_K = 20  # a shard asks for four references per subject wanted
ROUNDS = 12
"""The contenders take turns this often, so that a change of the machine's load meets all of them."""
SLOW_EVERY = 3  # FAISS as installed, one second a batch, takes part in every third turn only
AGREEMENT_PROBES = 1024
TIE = 1e-6  # scores this near are equal within float32's rounding
CHANGES = 1000


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("match")(run)


def run(
    references: Annotated[int, typer.Option(min=1000, help="References in the gallery, about three per subject.")] = 100_000,
    dimensions: Annotated[int, typer.Option(min=16, max=4096, help="Length of an embedding.")] = 512,
    probes: Annotated[int, typer.Option(min=BATCH, help="Probes compared with the oracle.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the generated people.")] = 1,
    as_json: bool = JSON_OPTION,
) -> None:
    """Search a large gallery of generated people on one core, beside FAISS as installed."""
    pin_to_one_core()
    from matcher.faiss_index import faiss_version

    with console().status("searching"):
        figures = measure(references=references, dimensions=dimensions, probes=probes, seed=seed)
    settings = {
        "references": references,
        "dimensions": dimensions,
        "probes": probes,
        "k": K,
        "seed": seed,
        "cores": 1,
        "faiss": faiss_version(),
    }
    emit_report("match", settings=settings, figures=figures, as_json=as_json)


def pin_to_one_core() -> None:
    """Start this command again on one core.

    A BLAS counts the cores once, when it is loaded; only a process that begins on one core is sure to stay on it.
    """
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) == 1:
        return
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def measure(*, references: int, dimensions: int, probes: int, seed: int) -> Figures:
    """Run the benchmark in this process and return its figures."""
    import numpy as np

    from cli.bench.people import generate_people
    from matcher.faiss_index import FaissIndex, FlatBaseline

    people = generate_people(references=references, dimensions=dimensions, probes=probes, rng=np.random.default_rng(seed))
    index = FaissIndex(dimensions)
    started_s = time.perf_counter()
    slots = index.add(people.references)
    build_s = time.perf_counter() - started_s
    flat = FlatBaseline(people.references)
    single = _single_probes(index, flat, people, slots)
    batch = _batches(index, flat, people)
    return {
        **single,
        **batch,
        **_batch_agreement(index, people, slots),
        "speedup_single": (single["flat_single_p50"][0] / single["match_single_p50"][0], "x"),
        "speedup_batch": (batch["flat_batch64_per_probe"][0] / batch["match_batch64_per_probe"][0], "x"),
        "bytes_per_reference": (index.bytes_used / references, "bytes"),
        "build_s": (build_s, "s"),
        **_changes(index, people, slots),
    }


def _single_probes(index: "FaissIndex", flat: "FlatBaseline", people: "People", slots: "I64") -> Figures:
    """One probe at a time: every probe and stranger through the index, a few through the flat index in between."""
    import numpy as np

    ours_ms: list[float] = []
    strangers_ms: list[float] = []
    flat_ms: list[float] = []
    top: list[int] = []
    stranger_top: list[int] = []
    for probes, strangers in zip(np.array_split(people.probes, ROUNDS), np.array_split(people.strangers, ROUNDS), strict=True):
        for rows, times, tops in ((probes, ours_ms, top), (strangers, strangers_ms, stranger_top)):
            index.search(rows[:1], K)
            for row in range(len(rows)):
                milliseconds, (found, _) = _timed(index.search, rows[row : row + 1], K)
                times.append(milliseconds)
                tops.append(int(found[0, 0]))
        flat.search(probes[:1], K)
        flat_ms.extend(_timed(flat.search, probes[row : row + 1], K)[0] for row in range(min(4, len(probes))))
    return {
        "match_single_p50": (float(np.percentile(ours_ms, 50)), "ms"),
        "match_single_p99": (float(np.percentile(ours_ms, 99)), "ms"),
        "match_rank1_agreement": (float(np.mean(np.array(top) == slots[oracle_rank1(people.references, people.probes)])), "ratio"),
        "match_stranger_p50": (float(np.percentile(strangers_ms, 50)), "ms"),
        "match_stranger_rank1_agreement": (
            float(np.mean(np.array(stranger_top) == slots[oracle_rank1(people.references, people.strangers)])),
            "ratio",
        ),
        "flat_single_p50": (float(np.percentile(flat_ms, 50)), "ms"),
    }


def _batches(index: "FaissIndex", flat: "FlatBaseline", people: "People") -> Figures:
    """Batches of 64 in turns: the index, float32 alone through NumPy's BLAS, flat as installed, flat with FAISS's own BLAS."""
    import numpy as np

    from matcher.exact import exact_search

    contenders: dict[str, Callable[[F32], object]] = {
        "match_batch64_per_probe": lambda probes: index.search(probes, K),
        "match_batch64_k20_per_probe": lambda probes: index.search(probes, SHARD_K),
        "float32_batch64_per_probe": lambda probes: exact_search(people.references, probes, K),
        "flat_batch64_per_probe": lambda probes: flat.search(probes, K),
        "flat_blas_batch64_per_probe": lambda probes: flat.search(probes, K, blas=True),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(ROUNDS):
        probes = np.roll(people.probes, -turn * BATCH, axis=0)[:BATCH]
        for name, search in contenders.items():
            if name != "flat_batch64_per_probe" or turn % SLOW_EVERY == 0:
                times[name].append(_timed(search, probes)[0] / BATCH)
    return {name: (float(np.median(values[1:])), "ms") for name, values in times.items()}  # the first turn warms up


def _batch_agreement(index: "FaissIndex", people: "People", slots: "I64") -> Figures:
    """Batches of enrolled people and strangers: does the index name the oracle's K best, and how many rows did it score for that?"""
    import numpy as np

    row_of_slot = np.argsort(slots)
    agree: list[bool] = []
    rescored, probes = index.rescored, np.concatenate([people.probes[:AGREEMENT_PROBES], people.strangers])
    for first in range(0, len(probes) - BATCH + 1, BATCH):
        batch = probes[first : first + BATCH]
        rows = row_of_slot[index.search(batch, K)[0]]
        scores = batch @ people.references.T
        least = np.partition(scores, -K, axis=1)[:, -K] - TIE
        for row, found, kth in zip(scores, rows, least, strict=True):
            agree.append(len(set(found.tolist())) == K and bool((row[found] >= kth).all()))
    return {
        "match_batch64_agreement": (float(np.mean(agree)), "ratio"),
        "rescored_per_probe": ((index.rescored - rescored) / len(agree), "references"),
    }


def _changes(index: "FaissIndex", people: "People", slots: "I64") -> Figures:
    """Replace, delete and add single references; deleted ones must not be found."""
    import numpy as np

    count = min(CHANGES, len(slots) // 4)
    update_ms = [_timed(index.update, slots[row : row + 1], people.references[row : row + 1])[0] for row in range(count)]
    delete_ms = [_timed(index.delete, slots[row : row + 1])[0] for row in range(count)]
    found, _ = index.search(people.references[:count], 1)
    add_ms = [_timed(index.add, people.references[row : row + 1])[0] for row in range(count)]
    return {
        "update_p50": (float(np.median(update_ms)), "ms"),
        "delete_p50": (float(np.median(delete_ms)), "ms"),
        "add_p50": (float(np.median(add_ms)), "ms"),
        "deleted_but_found": (float(np.isin(found, slots[:count]).sum()), "references"),
    }


def oracle_rank1(references: "F32", probes: "F32") -> "I64":
    """Return the row of the greatest cosine for each probe: all of them computed, in batches that fit in memory."""
    import numpy as np

    step = max(1, 32_000_000 // len(references))  # 128 MB of scores
    return np.concatenate([(probes[first : first + step] @ references.T).argmax(axis=1) for first in range(0, len(probes), step)])


def _timed(work: Callable[..., R], *args: object) -> tuple[float, R]:
    started_ns = time.perf_counter_ns()
    result = work(*args)
    return (time.perf_counter_ns() - started_ns) / 1e6, result
