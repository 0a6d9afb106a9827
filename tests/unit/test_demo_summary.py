"""The demo's summary: right only when names, strangers and frames all are."""

from dataclasses import replace

import pytest

from cli.demo.script import LOBBY
from cli.demo.summary import Account, Showing, Summary, summarize, whose
from core.schema import Sighting, StageTimes, TrackPoint

START_S = 1_700_000_000.0
SCRIPT = LOBBY.until(14.0)
OBAMA, COLLINS = SCRIPT.visits
BALANCED = Account(camera="lobby", decoded=140, published=100, finished=99, dead_lettered=1, dropped=0)


def sighting_of(visit_index: int, name: str | None, *, score: float = 0.7, shift_px: float = 0.0) -> Sighting:
    """A sighting that follows a scripted visit, or its parallel some pixels aside."""
    visit = SCRIPT.visits[visit_index]
    times = [visit.starts_s + 2.5, visit.stops[1].t_s, visit.stops[1].t_s + 1]
    stops = [stop for t in times if (stop := visit.at(t))]
    path = tuple(TrackPoint(START_S + s.t_s, s.x_px - 50 + shift_px, s.y_px - 60, s.x_px + 50 + shift_px, s.y_px + 60) for s in stops)
    return Sighting(
        sighting_id="s",
        track_id="t",
        camera="lobby",
        region="default",
        revision=1,
        closed=True,
        outcome="subject" if name else "stranger",
        collection="default",
        subject_id="i" if name else None,
        subject=name,
        score=score,
        threshold=0.4,
        model="m",
        quality=0.9,
        faces=3,
        first_s=path[0].t_s,
        last_s=path[-1].t_s,
        best_s=path[1].t_s,
        best_box=(0, 0, 1, 1),
        path=path,
        times=StageTimes(captured_s=0, published_s=0, detected_s=0, embedded_s=0, matched_s=0, decided_s=0),
    )


def summary_of(*sightings: Sighting, account: Account = BALANCED) -> Summary:
    return summarize([SCRIPT], sightings, Showing(started_s={"lobby": START_S}, accounts=[account], latencies_ms=[40.0, 60.0, 90.0]))


def test_everything_right() -> None:
    summary = summary_of(
        sighting_of(0, "Barack Obama", score=0.6), sighting_of(0, "Barack Obama", score=0.8), sighting_of(1, None, score=0.1)
    )
    assert [finding.verdict for finding in summary.findings] == ["named", "left unnamed"]
    assert [finding.score for finding in summary.findings] == [0.8, 0.1]
    assert (summary.latency_p50_ms, summary.latency_p95_ms) == (60.0, 90.0)
    assert summary.right


@pytest.mark.parametrize(
    ("sightings", "verdicts"),
    [
        ([sighting_of(0, "Barack Obama")], ["named", "not seen"]),
        ([sighting_of(0, None), sighting_of(1, None)], ["not named", "left unnamed"]),
        ([sighting_of(0, "Joe Biden"), sighting_of(1, None)], ["wrongly named", "left unnamed"]),
        ([sighting_of(0, "Barack Obama"), sighting_of(1, "Joe Biden")], ["named", "wrongly named"]),
        ([sighting_of(0, "Barack Obama"), sighting_of(0, "Joe Biden"), sighting_of(1, None)], ["wrongly named", "left unnamed"]),
    ],
)
def test_what_is_wrong_is_said(sightings: list[Sighting], verdicts: list[str]) -> None:
    summary = summary_of(*sightings)
    assert [finding.verdict for finding in summary.findings] == verdicts
    assert not summary.right


def test_a_name_where_nobody_is_counts_as_wrong() -> None:
    summary = summary_of(sighting_of(0, "Barack Obama"), sighting_of(1, None), sighting_of(0, "Joe Biden", shift_px=400))
    assert summary.stray_names == ("Joe Biden",)
    assert not summary.right


@pytest.mark.parametrize("account", [replace(BALANCED, finished=98), replace(BALANCED, published=0, finished=0, dead_lettered=0)])
def test_a_frame_without_account_is_not_right(account: Account) -> None:
    assert not summary_of(sighting_of(0, "Barack Obama"), sighting_of(1, None), account=account).right


def test_whose_path_it_is_goes_by_place_and_time() -> None:
    assert whose(SCRIPT, sighting_of(0, None), START_S) == OBAMA
    assert whose(SCRIPT, sighting_of(1, None), START_S) == COLLINS
    assert whose(SCRIPT, sighting_of(1, None), START_S - 60) is None


def test_footage_that_played_late_is_matched_too() -> None:
    late = sighting_of(0, "Barack Obama")
    assert whose(SCRIPT, late, START_S - 8.0) != OBAMA
    assert whose(SCRIPT, late, START_S - 8.0, late_s=8.0) == OBAMA


def test_no_sightings_no_latency() -> None:
    summary = summarize([SCRIPT], [], Showing(started_s={}, accounts=[BALANCED], latencies_ms=[]))
    assert (summary.latency_p50_ms, summary.latency_p95_ms) == (None, None)
