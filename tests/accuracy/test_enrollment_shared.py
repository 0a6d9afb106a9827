"""Enrolment must take usable photos, on real material. Self-contained sibling: tests/e2e/test_enroll_commands.py."""

import asyncio
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from cli.compose import open_gallery
from core.photo import read_bytes, read_photo
from core.settings import load_settings
from core.types import Image
from enrollment.imports import Naming, list_photos
from enrollment.record import Outcome, Photo
from enrollment.service import EnrollOptions

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.exists(), reason=f"NOT MEASURED: the development data is absent ({DATA})"),
    pytest.mark.timeout(300),
]


def enroll(data_dir: Path, photos: list[Photo], **options: object) -> list[Outcome]:
    async def work() -> list[Outcome]:
        outcomes: list[Outcome] = []
        async with open_gallery(load_settings(data_dir=data_dir)) as gallery:
            await gallery.enroller.enroll_all(photos, outcomes.append, EnrollOptions(**options))  # type: ignore[arg-type]
        return outcomes

    return asyncio.run(work())


def png(make: Callable[[], Image]) -> Callable[[], bytes]:
    def read() -> bytes:
        out = io.BytesIO()
        PIL.Image.fromarray(make()).save(out, "PNG", compress_level=1)
        return out.getvalue()

    return read


def prepared_orl(path: Path) -> Image:
    """An ORL face as the data's README says: enlarged twelve times, with a border."""
    large = cv2.resize(read_photo(path), None, fx=12, fy=12, interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.copyMakeBorder(large, 90, 90, 90, 90, cv2.BORDER_REPLICATE), np.uint8)


def cut(path: Path, share: tuple[float, float, float, float]) -> Image:
    image = read_photo(path)
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (round(s * n) for s, n in zip(share, (width, height, width, height), strict=True))
    return np.ascontiguousarray(image[y1:y2, x1:x2])


def refused(outcomes: list[Outcome]) -> list[tuple[str, str, str]]:
    return [(outcome.file, outcome.reason, outcome.detail) for outcome in outcomes if outcome.status != "enrolled"]


def test_the_three_press_photos(tmp_path: Path) -> None:
    outcomes = enroll(tmp_path / "data", list_photos(DATA / "hamilton", Naming()))
    assert refused(outcomes) == [("short_hamilton_clip.mp4", "unsupported", "is a video, not a photo")]


def test_grey_faces_blurred_by_enlargement(tmp_path: Path) -> None:
    photos = [
        Photo(
            file=f"s{person}/{shot}.pgm", subject=f"s{person}", read=png(partial(prepared_orl, DATA / "orl" / f"s{person}" / f"{shot}.pgm"))
        )
        for person in range(1, 21)
        for shot in (1, 6)
    ]
    assert refused(enroll(tmp_path / "data", photos)) == []


def test_a_face_that_fills_the_picture(tmp_path: Path) -> None:
    boxes = {"obama.jpg": (368, 85, 619, 434)}
    path = DATA / "hamilton" / "obama.jpg"
    height, width = read_photo(path).shape[:2]
    x1, y1, x2, y2 = boxes["obama.jpg"]
    share = (x1 / width, y1 / height, x2 / width, y2 / height)
    assert refused(enroll(tmp_path / "data", [Photo(file="crop.png", subject="obama", read=png(lambda: cut(path, share)))])) == []


def test_portraits_with_people_in_the_background_and_groups(tmp_path: Path) -> None:
    names = ("img54.jpg", "img59.jpg", "img62.jpg", "couple.jpg", "selfie-many-people.jpg")
    photos = [Photo(file=name, subject=name, read=partial(read_bytes, DATA / "pairs" / name)) for name in names]
    outcomes = enroll(tmp_path / "data", photos, allow_lookalike=True)
    assert [outcome.reason for outcome in outcomes] == ["", "", "", "several_faces", "several_faces"]
