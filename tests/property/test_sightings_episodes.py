"""Episodes depend on the set of sightings alone."""

import itertools
import random
import uuid
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from sightings.episodes import Episode, merge

GAP = timedelta(seconds=30)
START = datetime(2026, 5, 1, 12, tzinfo=UTC)
ALICE, BOB = uuid.UUID(int=1), uuid.UUID(int=2)


def one(number: int, first_s: float, last_s: float, *, camera: str = "door", subject: uuid.UUID = ALICE, quality: float = 0.5) -> Episode:
    """Return a single sighting."""
    key = uuid.UUID(int=1000 + number)
    return Episode(
        camera=camera,
        subject_id=subject,
        first_at=START + timedelta(seconds=first_s),
        first_sighting_id=key,
        last_at=START + timedelta(seconds=last_s),
        sightings=1,
        best_quality=quality,
        best_sighting_id=key,
    )


def episodes(parts: list[Episode]) -> list[Episode]:
    return [merged.episode for merged in merge(parts, GAP)]


@st.composite
def sighting_sets(draw: st.DrawFn) -> list[Episode]:
    raw = draw(
        st.lists(
            st.tuples(
                st.integers(0, 400), st.integers(0, 60), st.sampled_from(["door", "hall"]), st.sampled_from([ALICE, BOB]), st.floats(0, 1)
            ),
            max_size=20,
        )
    )
    return [one(n, first, first + length, camera=camera, subject=who, quality=q) for n, (first, length, camera, who, q) in enumerate(raw)]


@given(sighting_sets(), st.randoms(use_true_random=False))
def test_any_order_and_any_batching_gives_the_same_episodes(parts: list[Episode], rng: random.Random) -> None:
    shuffled = rng.sample(parts, len(parts))
    so_far: list[Episode] = []
    while shuffled:
        size = rng.randint(1, 5)
        so_far = episodes(so_far + shuffled[:size])
        del shuffled[:size]
    assert so_far == episodes(parts)


@given(sighting_sets())
def test_episodes_count_each_sighting_once_and_lie_further_apart_than_the_gap(parts: list[Episode]) -> None:
    merged = merge(parts, GAP)
    assert sorted(part.first_sighting_id for m in merged for part in m.parts) == sorted(part.first_sighting_id for part in parts)
    assert sum(m.episode.sightings for m in merged) == len(parts)
    for before, after in itertools.pairwise(m.episode for m in merged):
        if (before.camera, before.subject_id) == (after.camera, after.subject_id):
            assert after.first_at - before.last_at > GAP


@given(sighting_sets())
def test_a_sighting_changes_only_episodes_within_its_reach(parts: list[Episode]) -> None:
    """What lets the store read a neighbourhood instead of a camera's whole history."""
    added = one(500, 200, 210)
    far = {e for e in episodes(parts) if e.last_at < added.first_at - GAP or e.first_at > added.last_at + GAP or e.camera != "door"}
    assert far <= set(episodes([*parts, added]))


def test_a_gap_of_exactly_the_limit_joins_and_a_microsecond_more_parts() -> None:
    assert [e.sightings for e in episodes([one(1, 0, 10), one(2, 40, 50)])] == [2]
    assert [e.sightings for e in episodes([one(1, 0, 10), one(2, 40.000001, 50)])] == [1, 1]


def test_a_long_sighting_bridges_what_lies_inside_it() -> None:
    (episode,) = episodes([one(1, 0, 500), one(2, 10, 20), one(3, 520, 530)])
    assert (episode.last_at - episode.first_at).total_seconds() == 530


def test_the_earliest_sighting_names_an_episode_and_the_best_one_shows_it() -> None:
    late, early = one(2, 20, 30, quality=0.9), one(1, 0, 10, quality=0.3)
    (episode,) = episodes([late, early])
    assert episode.episode_id == early.episode_id
    assert episode.best_sighting_id == late.best_sighting_id
