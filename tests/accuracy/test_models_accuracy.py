"""Detector and embedder of the default set on real photos: the shipped portraits always, the team's shared photos where they are."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from cli.bench.scene import portrait
from core.adapters.ort import OrtSession
from core.jpeg import decode_jpeg
from core.models.registry import Registry
from core.types import Image
from detect.detector import Detector, open_detector
from detect.photo import detect_photo
from embed.embedder import Embedder
from embed.quality import assess
from enrollment.faces import cut_face

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="SHARED PHOTOS ABSENT: accuracy on pairs and orl is NOT checked")


@pytest.fixture(scope="module")
def detector() -> Detector:
    registry = Registry.load(None)
    spec = registry.model("centerface")
    return open_detector(spec, OrtSession(registry.path(spec), provider="cpu", threads=0), side_px=640)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    registry = Registry.load(None)
    spec = registry.model("fr_feature")
    return Embedder(spec, OrtSession(registry.path(spec), provider="cpu", threads=0))


def read(path: Path) -> Image:
    return np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])


def embed_main_face(image: Image, detector: Detector, embedder: Embedder) -> np.ndarray:
    faces = detect_photo(detector, image)
    largest = int(np.argmax(np.ptp(faces.boxes[:, 1::2], axis=1)))
    return embedder.embed_views(embedder.views(image, faces.landmarks[[largest]])).vectors[0]


def test_shipped_portraits_of_one_person_are_nearer_than_of_two(detector: Detector, embedder: Embedder):
    obama = [("enrol", "barack-obama-2009"), ("figures", "barack-obama-2010"), ("figures", "barack-obama-2012")]
    others = [("enrol", "joe-biden-2010"), ("figures", "eileen-collins"), ("figures", "grace-hopper")]
    vectors = np.stack([embed_main_face(portrait(name, folder=folder), detector, embedder) for folder, name in obama + others])
    scores = vectors @ vectors.T
    assert scores[:3, :3].min() > 0.5
    assert scores[:3, 3:].max() < 0.27


def test_a_tight_and_a_tiny_portrait_are_found_and_recognised(detector: Detector, embedder: Embedder):
    image = portrait("barack-obama-2009", folder="enrol")
    reference = embed_main_face(image, detector, embedder)
    x1, y1, x2, y2 = (int(v) for v in detector.detect([image])[0].boxes[0])
    crop = np.ascontiguousarray(image[y1:y2, x1:x2])
    tiny = cv2.resize(crop, None, fx=56 / crop.shape[0], fy=56 / crop.shape[0], interpolation=cv2.INTER_AREA)
    wide = np.full((3000, 4000, 3), 120, np.uint8)
    small = cv2.resize(image, None, fx=90 / (y2 - y1), fy=90 / (y2 - y1), interpolation=cv2.INTER_AREA)
    wide[1000 : 1000 + small.shape[0], 2000 : 2000 + small.shape[1]] = small
    for picture, least in ((crop, 0.9), (np.asarray(tiny, np.uint8), 0.6), (wide, 0.9)):
        assert embed_main_face(picture, detector, embedder) @ reference > least


def test_a_stored_face_gives_the_embedding_of_its_photo_again(detector: Detector, embedder: Embedder):
    for name in ("barack-obama-2009", "joe-biden-2010"):
        image = portrait(name, folder="enrol")
        faces = detect_photo(detector, image)
        enrolled = embedder.embed_views(embedder.views(image, faces.landmarks[:1])).vectors[0]
        face_jpeg, landmarks = cut_face(image, faces.boxes[0], faces.landmarks[0])
        again = embedder.embed_views(embedder.views(decode_jpeg(face_jpeg), landmarks[None])).vectors[0]
        assert enrolled @ again > 0.98


def test_quality_sinks_with_blur_and_size_of_a_real_face(detector: Detector):
    image = portrait("joe-biden-2010", folder="enrol")
    blurred = [np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8) for sigma in (0.1, 6, 12)]
    values = [assess(picture, detect_photo(detector, picture))[0].value for picture in blurred]
    assert values[0] > 0.8
    assert values == sorted(values, reverse=True)
    assert "blurred" in assess(blurred[2], detect_photo(detector, blurred[2]))[0].reasons


@pytest.mark.slow
@needs_shared
def test_pairs_true_accept_rate_at_one_percent(detector: Detector, embedder: Embedder):
    with (SHARED / "pairs" / "pairs.csv").open() as file:
        rows = [(row["file_x"], row["file_y"], row["Decision"] == "Yes") for row in csv.DictReader(file)]
    names = sorted({name for row in rows for name in row[:2]})
    vectors = {name: embed_main_face(read(SHARED / "pairs" / name), detector, embedder) for name in names}
    scores = np.array([vectors[x] @ vectors[y] for x, y, _ in rows])
    same = np.array([row[2] for row in rows])
    threshold = np.quantile(scores[~same], 0.99)
    assert (scores[same] > threshold).mean() >= 0.99


@pytest.mark.slow
@needs_shared
def test_orl_faces_are_found_enlarged_and_as_they_are(detector: Detector):
    paths = sorted((SHARED / "orl").glob("*/*.pgm"))[::2]
    for path in paths:
        tiny = np.repeat(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)[..., None], 3, axis=2)
        large = cv2.resize(tiny, None, fx=12, fy=12, interpolation=cv2.INTER_CUBIC)
        framed = cv2.copyMakeBorder(large, 90, 90, 90, 90, cv2.BORDER_REPLICATE)
        assert len(detector.detect([np.asarray(framed, np.uint8)])[0]) == 1, path
        assert len(detect_photo(detector, tiny)) == 1, path
