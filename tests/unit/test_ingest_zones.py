"""Zones and masks."""

import pytest

from core.errors import UsageError
from ingest.zones import parse_polygon, rasterize

LEFT_HALF = parse_polygon("0,0 0.5,0 0.5,1 0,1")


def test_polygons_are_parsed_with_blanks_or_semicolons() -> None:
    assert parse_polygon("0,0; 1,0 ;0.5,1") == ((0.0, 0.0), (1.0, 0.0), (0.5, 1.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,0 1,1", "expected 3 to 64 points, got 2"),
        ("0,0 1,1 2,0", "within 0..1, got 2,0"),
        ("0,0 1,1 nan,0", "within 0..1, got nan,0"),
        ("0,0 1,1 x", "expected numbers as 'x1,y1 x2,y2 x3,y3'"),
        ("0,0 1,1 1,1,1", "within 0..1, got 1,1,1"),
        (" ".join(["0,0"] * 65), "expected 3 to 64 points, got 65"),
    ],
)
def test_bad_polygons_say_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_polygon(text)


def test_nothing_drawn_means_everywhere() -> None:
    assert rasterize((), (), width=8, height=6) is None


def test_masks_win_over_zones() -> None:
    grid = rasterize((LEFT_HALF,), (parse_polygon("0,0 1,0 1,0.5 0,0.5"),), width=16, height=16)
    assert grid is not None
    assert grid[12, 3] == 255
    assert grid[12, 12] == 0
    assert grid[3, 3] == 0


def test_a_mask_alone_leaves_the_rest() -> None:
    grid = rasterize((), (LEFT_HALF,), width=16, height=16)
    assert grid is not None
    assert grid[:, :7].max() == 0
    assert grid[:, 9:].min() == 255
