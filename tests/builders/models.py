"""Model specs and in-memory sessions for tests of detectors and embedders."""

from collections.abc import Callable
from typing import Any

import numpy as np

from core.models.spec import InputSpec, ModelSpec


class FunctionSession:
    """A session that computes its outputs with a Python function; remembers the shapes it was run with."""

    def __init__(self, function: Callable[[np.ndarray], list[np.ndarray]], *, provider: str = "cpu") -> None:
        self.function = function
        self.provider = provider
        self.shapes: list[tuple[int, ...]] = []

    def run(self, inputs: np.ndarray) -> list[np.ndarray]:
        self.shapes.append(inputs.shape)
        return self.function(inputs)


def make_spec(**changes: Any) -> ModelSpec:
    """A CenterFace-like spec; ``input=dict`` changes the input."""
    given = {
        "name": "test_model",
        "task": "detector",
        "architecture": "centerface",
        "file": "test.onnx",
        "sha256": "0" * 64,
        "shipped": False,
        "licence": "none",
        "commercial_use": True,
        "provenance": "made by the test",
        "training_data": "none",
    }
    tensor = {"tensor": "input", "colour": "rgb", "mean": 0.0, "scale": 1.0} | changes.pop("input", {})
    return ModelSpec(**(given | changes), input=InputSpec(**tensor))


def make_embedder_spec(**changes: Any) -> ModelSpec:
    """An fr_feature-like spec with 4 dimensions."""
    tensor = {"height_px": 112, "width_px": 112} | changes.pop("input", {})
    return make_spec(
        **({"task": "embedder", "architecture": "embedder", "template": "arcface112", "dimensions": 4} | changes), input=tensor
    )


def centerface_maps(
    canvas_px: tuple[int, int], faces: list[tuple[float, float, float, float, float]], *, batch: int = 1
) -> list[np.ndarray]:
    """Draw CenterFace outputs for faces (x1, y1, x2, y2, score); landmarks at fixed fractions of the box (see FACE_POINTS)."""
    rows, columns = canvas_px[0] // 4, canvas_px[1] // 4
    heat, size, offset, points = (np.zeros((batch, n, rows, columns), np.float32) for n in (1, 2, 2, 10))
    for x1, y1, x2, y2, score in faces:
        centre = np.array([(y1 + y2) / 8, (x1 + x2) / 8])
        y, x = (centre - 1e-4).astype(int)
        heat[:, 0, y, x] = score
        size[:, :, y, x] = np.log([(y2 - y1) / 4, (x2 - x1) / 4])
        offset[:, :, y, x] = centre - [y + 0.5, x + 0.5]
        points[:, :, y, x] = FACE_POINTS[:, ::-1].reshape(10)
    return [heat, size, offset, points]


FACE_POINTS = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)
"""Landmarks (x, y) as fractions of the box."""


def landmarks_of(box: tuple[float, float, float, float]) -> np.ndarray:
    """(5, 2) float32 landmarks at FACE_POINTS of a box."""
    x1, y1, x2, y2 = box
    return (FACE_POINTS * [x2 - x1, y2 - y1] + [x1, y1]).astype(np.float32)
