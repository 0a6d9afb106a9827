"""Revisions: a recognizer that begins anew is never ignored for want of a high one."""

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from core.schema import Sighting
from recognize.recognizer import Shown, Told
from tests.builders.painted import painted
from tests.builders.recognizers import MovingMatcher, make_recognizer, shown


@pytest.mark.parametrize("seed", range(4))
async def test_whoever_sees_a_suffix_again_never_ends_below_what_was_published(executor: ThreadPoolExecutor, seed: int) -> None:
    """A killed recognizer's successor begins at some frame that was not committed; the shards come and go for both."""
    rng = random.Random(seed)
    frames = []
    for n in range(150):
        people = {p: (30 + 200 * (p - 1) + n % 40, 60 + 20 * p) for p in (1, 2, 3) if (n + 11 * p) // 25 % 2 == 0}
        frames.append(shown(n, painted(people), captured_s=round(n * 0.1 + rng.random() * 0.05, 4)))
    published: dict[str, Sighting] = {}
    start = rng.randrange(30)
    await _play(executor, frames[: rng.randint(start + 60, 150)], rng, lambda s: published.update({s.sighting_id: s}))
    final: dict[str, Sighting] = {}
    await _play(executor, frames[start:], rng, lambda s: final.update({s.sighting_id: s}), away=False)
    same = published.keys() & final.keys()
    assert same
    for key in same:
        before, after = published[key], final[key]
        assert after.closed
        assert after.last_s >= before.last_s
        assert after.revision >= before.revision


async def _play(
    executor: ThreadPoolExecutor, frames: Sequence[Shown], rng: random.Random, note: Callable[[Sighting], None], *, away: bool = True
) -> None:
    matcher = MovingMatcher()
    recognizer = make_recognizer(executor, matcher=matcher)
    revisions: dict[str, int] = {}
    queue = list(frames)
    while queue:
        size = rng.randint(1, 6)
        matcher.missing = int(away and rng.random() < 0.3)
        told = await recognizer.process(queue[:size])
        del queue[:size]
        if rng.random() < 0.3:
            told += await recognizer.complete()
        _check(told, revisions, note)
    _check(recognizer.finish() + await recognizer.complete(), revisions, note)


def _check(told: Sequence[Told], revisions: dict[str, int], note: Callable[[Sighting], None]) -> None:
    for sighting, _ in told:
        assert sighting.revision > revisions.get(sighting.sighting_id, 0)
        revisions[sighting.sighting_id] = sighting.revision
        note(sighting)
