"""Telling what an ONNX file is from its inputs and outputs alone, as the packs of InsightFace do not say it."""

from pathlib import Path
from typing import Literal

import numpy as np

from core.adapters.ort import OrtSession
from core.errors import ModelError
from core.models.spec import InputSpec, ModelSpec

SCRFD_WIDTHS = (1, 1, 1, 4, 4, 4, 10, 10, 10)
"""Values per anchor of SCRFD's outputs: score, box and five points, each at strides 8, 16 and 32."""
PROBE_SIDE_PX = 640
"""Side of the blank picture that a detector of any size is tried on."""
ARCFACE_SIDE_PX = 112
ARCFACE_DIMENSIONS = 512

Kind = Literal["scrfd", "arcface"]


def recognise(path: Path) -> tuple[Kind, InputSpec] | None:
    """Return what a model is and how it is fed, or None when it is neither SCRFD nor ArcFace (age, landmarks, ...).

    The model is run once on a blank picture: what it puts out counts, not what the file declares.

    Raises:
        ModelError: unreadable, or an SCRFD without landmarks, which alignment needs.
    """
    session = OrtSession(path, provider="cpu", threads=1)
    shape = session.input_shape
    if len(session.inputs) != 1 or len(shape) != 4 or shape[1] != 3:
        return None
    if shape[2:] == (ARCFACE_SIDE_PX, ARCFACE_SIDE_PX):
        return _as_arcface(session)
    return _as_scrfd(session, path)


def _as_arcface(session: OrtSession) -> tuple[Kind, InputSpec] | None:
    """Source: input arithmetic of insightface's ArcFaceONNX: RGB, (pixel - 127.5) / 127.5."""
    blank = np.zeros((1, 3, ARCFACE_SIDE_PX, ARCFACE_SIDE_PX), np.float32)
    if [output.shape for output in session.run(blank)] != [(1, ARCFACE_DIMENSIONS)]:
        return None
    tensor = session.inputs[0]
    side, batch = ARCFACE_SIDE_PX, tensor.shape[0] is None
    spec = InputSpec(tensor=tensor.name, height_px=side, width_px=side, colour="rgb", mean=127.5, scale=1 / 127.5, batch=batch)
    return "arcface", spec


def _as_scrfd(session: OrtSession, path: Path) -> tuple[Kind, InputSpec] | None:
    """Source: input arithmetic of insightface's SCRFD: RGB, (pixel - 127.5) / 128."""
    tensor = session.inputs[0]
    height, width = (n or PROBE_SIDE_PX for n in tensor.shape[2:])
    outputs = session.run(np.zeros((1, 3, height, width), np.float32))
    widths = tuple(output.shape[-1] if output.ndim in (2, 3) else -1 for output in outputs)
    if widths == SCRFD_WIDTHS[:6]:
        raise ModelError(f"{path.name}: an SCRFD without landmarks (6 outputs); take a 'bnkps' model with 9, as in buffalo_l")
    if widths != SCRFD_WIDTHS:
        return None
    batch = tensor.shape[0] is None and all(output.ndim == 3 for output in outputs)
    fixed_height, fixed_width = tensor.shape[2:]
    spec = InputSpec(tensor=tensor.name, height_px=fixed_height, width_px=fixed_width, colour="rgb", mean=127.5, scale=1 / 128, batch=batch)
    return "scrfd", spec


def spec_of(name: str, sha256: str, found: tuple[Kind, InputSpec], terms: dict[str, str | bool]) -> ModelSpec:
    """Return the registry entry of a recognised model.

    Args:
        name: of the model; its file is called the same.
        sha256: of the file.
        found: as from ``recognise``.
        terms: licence, commercial_use, provenance, training_data.
    """
    kind, tensor = found
    fields: dict[str, object] = {"name": name, "file": f"{name}.onnx", "sha256": sha256, "shipped": False, "input": tensor, **terms}
    if kind == "scrfd":
        fields |= {"task": "detector", "architecture": "scrfd", "score_threshold": 0.5}
    else:
        fields |= {"task": "embedder", "architecture": "embedder", "template": "arcface112", "dimensions": ARCFACE_DIMENSIONS}
    return ModelSpec.model_validate(fields)
