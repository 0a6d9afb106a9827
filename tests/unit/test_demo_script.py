"""The demo's script: people come in from outside, stand still, and leave."""

from itertools import pairwise

import pytest

from cli.demo.script import CAMERAS, DURATION_S, FIGURES, FPS, KNOWN, LOBBY, WIDTH_PX, Visit

VISITS = [pytest.param(visit, id=f"{script.camera}-{visit.photo}") for script in CAMERAS for visit in script.visits]


@pytest.mark.parametrize("visit", VISITS)
def test_a_visit_begins_and_ends_outside_the_picture(visit: Visit) -> None:
    first, last = visit.stops[0], visit.stops[-1]
    assert first.x_px < -100 or first.x_px > WIDTH_PX + 100
    assert last.x_px < -100 or last.x_px > WIDTH_PX + 100
    assert visit.ends_s <= DURATION_S


@pytest.mark.parametrize("visit", VISITS)
def test_a_visitor_stands_still_for_some_seconds(visit: Visit) -> None:
    still = [index / FPS for index in range(round(DURATION_S * FPS)) if visit.at(index / FPS) and not visit.walking(index / FPS)]
    assert len(still) / FPS >= 2.0
    places = {round(stop.x_px) for t in still if (stop := visit.at(t))}
    assert len(places) == 1


@pytest.mark.parametrize("visit", VISITS)
def test_a_visitor_never_jumps(visit: Visit) -> None:
    stops = [stop for index in range(round(DURATION_S * FPS)) if (stop := visit.at(index / FPS))]
    steps = [abs(b.x_px - a.x_px) for a, b in pairwise(stops)]
    assert max(steps) < 70  # less than half a face at 10 frames a second


def test_faces_are_of_the_size_that_a_door_camera_sees() -> None:
    heights = [stop.height_px for script in CAMERAS for visit in script.visits for stop in visit.stops]
    assert min(heights) >= 90
    assert max(heights) <= 160


def test_known_people_and_strangers_are_on_every_camera_and_cross() -> None:
    for script in CAMERAS:
        assert {visit.known for visit in script.visits} == {True, False}
        together = [script.whereabouts(index / FPS) for index in range(round(DURATION_S * FPS))]
        gaps = [abs(a[1].x_px - b[1].x_px) for a, b in (pair for pair in together if len(pair) == 2)]
        assert min(gaps) < 60


def test_nobody_is_enrolled_with_the_picture_that_walks_by() -> None:
    walking = {(visit.person, visit.photo, visit.mirrored) for script in CAMERAS for visit in script.visits}
    for enrolment in KNOWN:
        assert (enrolment.name, enrolment.photo, False) not in walking
    assert all(visit.photo in FIGURES for script in CAMERAS for visit in script.visits)


def test_a_shorter_script_leaves_out_who_would_not_have_arrived() -> None:
    assert [visit.person for visit in LOBBY.until(14.0).visits] == ["Barack Obama", "Eileen Collins"]
    assert LOBBY.until(DURATION_S) == LOBBY


def test_who_is_nearer_is_painted_last() -> None:
    heights = [stop.height_px for _, stop in LOBBY.whereabouts(11.0)]
    assert heights == sorted(heights)
    assert len(heights) == 2
