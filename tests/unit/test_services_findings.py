"""The scripted scene, and how sightings are held against it."""

from itertools import pairwise

from cli.services.findings import STRANGER, UNCLEAR, Seen, expected, findings
from cli.services.scene import DURATION_S, PAUSE_S, REGIONS, scene_cameras

BEGAN_S = 1000.0
CAMERAS = scene_cameras()


def seen(camera: str, who: str, first_s: float, last_s: float) -> Seen:
    return Seen(camera=camera, who=who, first_s=BEGAN_S + first_s, last_s=BEGAN_S + last_s, closed=True)


def test_scene_has_eight_cameras_in_two_regions_and_all_kinds_of_visitors() -> None:
    assert len(CAMERAS) == 8
    assert {camera.region for camera in CAMERAS} == set(REGIONS)
    assert len(expected(CAMERAS)) == 16
    for region in REGIONS:
        who = {one for camera, one, _ in expected(CAMERAS) if camera.startswith(region)}
        assert who == {"Barack Obama", "Joe Biden", STRANGER}


def test_scene_visits_of_a_camera_are_apart_and_end_before_the_clip() -> None:
    for camera in CAMERAS:
        assert all(later.starts_s - earlier.ends_s >= PAUSE_S for earlier, later in pairwise(camera.visits))
        assert camera.visits[-1].ends_s < DURATION_S - 1


def test_findings_join_the_sightings_of_one_visit() -> None:
    visit = CAMERAS[0].visits[0]
    parts = [seen("north-0", visit.person, 2, 6), seen("north-0", STRANGER, 6, 7), seen("north-0", visit.person, 7, 15)]
    assert findings(CAMERAS, parts, BEGAN_S) == {("north-0", visit.person, 0)}


def test_findings_show_a_wrong_name_beside_the_right_one() -> None:
    parts = [seen("north-0", "Barack Obama", 2, 6), seen("north-0", "Joe Biden", 7, 15)]
    assert findings(CAMERAS, parts, BEGAN_S) == {("north-0", "Barack Obama", 0), ("north-0", "Joe Biden", 0)}


def test_findings_name_what_happens_outside_all_visits() -> None:
    assert findings(CAMERAS, [seen("north-0", "Joe Biden", 39, 40)], BEGAN_S) == {("north-0", "Joe Biden", None)}
    assert findings(CAMERAS, [seen("attic", STRANGER, 3, 4)], BEGAN_S) == {("attic", STRANGER, None)}


def test_findings_do_not_count_what_was_unclear() -> None:
    assert findings(CAMERAS, [seen("north-0", UNCLEAR, 2, 6)], BEGAN_S) == set()
