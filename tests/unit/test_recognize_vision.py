"""Faces that are searched for: clear ones go by fewer views, and every row stays its face's."""

from typing import cast

import numpy as np
import pytest

from core.types import F32, U8, Embeddings, Faces, Image, Quality
from detect.detector import Detector
from embed.embedder import Embedder
from recognize.vision import CLEAR_PX, CLEAR_QUALITY, Vision, is_clear


class NotingEmbedder:
    """Embeds a face as the x of its first landmark, and notes how it was asked."""

    model, dimensions = "noting", 1

    def __init__(self) -> None:
        self.asked: list[tuple[int, bool]] = []

    def views(self, image: Image, landmarks: F32, *, clear: bool = False) -> U8:
        self.asked.append((len(landmarks), clear))
        return landmarks[:, 0, 0].astype(np.uint8)

    def embed_views(self, views: U8) -> Embeddings:
        return Embeddings(model=self.model, vectors=views[:, None].astype(np.float32), norms=views.astype(np.float32))


def faces(*heights: float) -> Faces:
    count = len(heights)
    landmarks = np.zeros((count, 5, 2), np.float32)
    landmarks[:, 0, 0] = np.arange(count)
    boxes = np.array([[0, 0, 50, height] for height in heights], np.float32).reshape(count, 4)
    return Faces(boxes=boxes, landmarks=landmarks, scores=np.ones(count, np.float32))


def test_clear_faces_go_by_fewer_views_and_all_keep_their_places() -> None:
    embedder = NotingEmbedder()
    vision = Vision(cast(Detector, None), cast(Embedder, embedder), None)  # type: ignore[arg-type]
    qualities = [Quality(value=value, reasons=()) for value in (0.9, 0.2, 0.9, 0.9)]
    found = vision.embed(np.zeros((4, 4, 3), np.uint8), faces(200, 200, 40, 300), qualities)
    assert found.vectors[:, 0].tolist() == [0, 1, 2, 3]
    assert found.norms.tolist() == [0, 1, 2, 3]
    assert embedder.asked == [(2, True), (2, False)]


@pytest.mark.parametrize(
    ("quality", "height", "clear"),
    [(CLEAR_QUALITY, CLEAR_PX, True), (CLEAR_QUALITY - 0.01, 500.0, False), (1.0, CLEAR_PX - 1, False)],
)
def test_a_clear_face_is_both_sharp_and_large(quality: float, height: float, clear: bool) -> None:
    assert is_clear(Quality(value=quality, reasons=()), faces(height).boxes[0]) is clear
