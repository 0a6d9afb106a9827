"""Episodes are a function of the set of sightings."""

import itertools
import random
import uuid
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from sightings.episodes import Span, episode_id_of, episodes_of

GAP = timedelta(seconds=30)
START = datetime(2026, 5, 1, 12, tzinfo=UTC)
ALICE, BOB = uuid.UUID(int=1), uuid.UUID(int=2)


def span(number: int, first_s: float, last_s: float, *, camera: str = "door", subject: uuid.UUID = ALICE, quality: float = 0.5) -> Span:
    return Span(
        sighting_id=uuid.UUID(int=1000 + number),
        camera=camera,
        subject_id=subject,
        first_at=START + timedelta(seconds=first_s),
        last_at=START + timedelta(seconds=last_s),
        quality=quality,
    )


@st.composite
def span_sets(draw: st.DrawFn) -> list[Span]:
    raw = draw(
        st.lists(
            st.tuples(st.integers(0, 400), st.integers(0, 60), st.sampled_from(["door", "hall"]), st.sampled_from([ALICE, BOB])),
            max_size=20,
        )
    )
    return [span(n, first, first + length, camera=camera, subject=subject) for n, (first, length, camera, subject) in enumerate(raw)]


@given(span_sets(), st.randoms(use_true_random=False))
def test_any_order_and_any_duplication_gives_the_same_episodes(spans: list[Span], rng: random.Random) -> None:
    shuffled = spans + rng.choices(spans, k=5) if spans else []
    rng.shuffle(shuffled)
    assert episodes_of(shuffled, GAP) == episodes_of(spans, GAP)


@given(span_sets())
def test_episodes_hold_each_sighting_once_and_lie_further_apart_than_the_gap(spans: list[Span]) -> None:
    episodes = episodes_of(spans, GAP)
    assert sorted(key for episode in episodes for key in episode.sighting_ids) == sorted(one.sighting_id for one in spans)
    for before, after in itertools.pairwise(episodes):
        if (before.camera, before.subject_id) == (after.camera, after.subject_id):
            assert after.first_at - before.last_at > GAP


@given(span_sets())
def test_a_sighting_changes_only_episodes_within_its_reach(spans: list[Span]) -> None:
    """What lets the store regroup a neighbourhood instead of a camera's whole history."""
    added = [span(500, 200, 210)]
    near = {e for e in episodes_of(spans, GAP) if _touches(e.first_at, e.last_at, added[0])}
    far = set(episodes_of(spans, GAP)) - {e for e in near if (e.camera, e.subject_id) == ("door", ALICE)}
    assert far <= set(episodes_of([*spans, *added], GAP))


def _touches(first_at: datetime, last_at: datetime, one: Span) -> bool:
    return last_at >= one.first_at - GAP and first_at <= one.last_at + GAP


def test_a_gap_of_exactly_the_limit_joins_and_a_microsecond_more_parts() -> None:
    joined = episodes_of([span(1, 0, 10), span(2, 40, 50)], GAP)
    parted = episodes_of([span(1, 0, 10), span(2, 40.000001, 50)], GAP)
    assert [len(episode.sighting_ids) for episode in joined] == [2]
    assert [len(episode.sighting_ids) for episode in parted] == [1, 1]


def test_a_long_sighting_bridges_what_lies_inside_it() -> None:
    (episode,) = episodes_of([span(1, 0, 500), span(2, 10, 20), span(3, 520, 530)], GAP)
    assert (episode.last_at - episode.first_at).total_seconds() == 530


def test_the_earliest_sighting_names_an_episode_and_the_best_one_shows_it() -> None:
    (episode,) = episodes_of([span(2, 20, 30, quality=0.9), span(1, 0, 10, quality=0.3)], GAP)
    assert episode.episode_id == episode_id_of("door", ALICE, uuid.UUID(int=1001))
    assert episode.best_sighting_id == uuid.UUID(int=1002)
