"""Ten thousand hostile files: one clear error each, no crash, memory flat. Video bytes have their own test (ingest)."""

import contextlib
import ctypes
import gc
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from cli.compose import load_models
from core.errors import UnreadableMediaError
from core.photo import decode_photo
from core.ports import Database
from core.settings import load_settings
from enrollment.imports import Naming, list_photos
from enrollment.record import Outcome, Photo
from enrollment.service import EnrollOptions
from tests.builders.gallery import open_enroller, photo_of
from tests.builders.garbage import garbage

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")  # core.photo silences them; pytest turns them on again
MIB = 1 << 20


def refusal(work: Callable[[], object]) -> str | None:
    """Return the words of the one error that work may raise, or None."""
    try:
        work()
    except UnreadableMediaError as err:
        return str(err)
    return None


def resident_bytes() -> int:
    """Return what is really held: the C library keeps freed memory of large pictures in each thread's arena, up to hundreds of MB."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    return int(psutil.Process().memory_info().rss)


@pytest.mark.timeout(300)
def test_ten_thousand_hostile_photos_into_the_decoder() -> None:
    def decode(seed: int, count: int) -> Counter[str]:
        results: Counter[str] = Counter()
        for what, data in garbage(seed, count):
            words = refusal(lambda data=data: decode_photo(data, name="x.jpg"))
            assert words is None or (words.startswith("x.jpg: ") and words.isprintable()), what
            results["decoded" if words is None else "refused"] += 1
        return results

    decode(seed=100, count=1000)  # caches and arenas reach their size
    before = resident_bytes()
    results = sum((decode(seed, 1000) for seed in range(10)), Counter[str]())
    assert results.total() == 10_000
    assert results["refused"] > 5_000
    assert resident_bytes() - before < 48 * MIB


@pytest.mark.timeout(300)
async def test_hostile_photos_into_enrolment(db: Database, tmp_path: Path) -> None:
    def photos(seed: int, count: int) -> list[Photo]:
        return [Photo(file=f"{n}.jpg", subject=f"s{n}", read=lambda data=data: data) for n, (_, data) in enumerate(garbage(seed, count))]

    models = load_models(load_settings(data_dir=tmp_path))
    async with open_enroller(db) as painted:
        enroller = replace(painted, detector=models.detector, embedder=models.embedder, calibration=models.calibration)
        outcomes: list[Outcome] = []
        await enroller.enroll_all(photos(1, 200), outcomes.append, EnrollOptions())
        held = [resident_bytes()]
        for seed in range(2, 5):
            await enroller.enroll_all(photos(seed, 300), outcomes.append, EnrollOptions())
            held.append(resident_bytes())
        assert min(after - before for before, after in itertools.pairwise(held)) < 16 * MIB  # a leak grows each time, an arena once
        assert len(outcomes) == 1100
        assert {outcome.status for outcome in outcomes} == {"rejected"}
        assert all(outcome.detail.isprintable() and outcome.detail for outcome in outcomes)
        assert {outcome.reason for outcome in outcomes} <= {"unreadable", "unsupported", "no_face", "several_faces", "too_small"}
        good = await painted.enroll(photo_of(1, file="ann.png", subject="ann"))
        assert good.status == "enrolled"


def test_hostile_zips_and_tables(tmp_path: Path) -> None:
    for number, (what, data) in enumerate(garbage(seed=3, count=500)):
        for suffix, start in ((".zip", b"PK\x03\x04"), (".csv", b"file,subject\n")):
            path = tmp_path / f"{number}{suffix}"
            path.write_bytes(start + data)
            words = refusal(lambda path=path: list_photos(path, Naming()))
            assert words is None or words.isprintable(), what
            path.unlink()
