"""Detector: pictures in, faces out, whatever the model."""

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from core.batches import fixed_batches
from core.errors import ModelError
from core.models.spec import ModelSpec
from core.ports import Session
from core.types import F32, Faces, Image
from detect import centerface, scrfd, yunet
from detect.letterbox import Letterbox, fit, write_tensor
from detect.nms import suppress

BATCH_SIZES = (1, 2, 4, 8)
"""Pictures per run of the model on a GPU, the last batch filled up."""
CPU_BATCH_SIZES = (1,)
"""On a CPU a batch only outgrows the cache: CenterFace at 640 x 384 takes 39 ms of CPU per picture alone, 45 in fours, 48 in eights."""


class Detector(Protocol):
    """Finds faces. Thread rule: any thread; calls wait for each other."""

    @property
    def name(self) -> str:
        """Name of the model."""
        ...

    def detect(self, images: Sequence[Image]) -> list[Faces]:
        """Find the faces of each picture, in its own pixels, best score first. Raises ModelError."""
        ...

    def scale_of(self, image: Image) -> float:
        """Return how much a picture is shrunk before it is looked at: input pixels per pixel, <= 1."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """How one family of detectors is read."""

    check_outputs: Callable[[Sequence[NDArray[Any]]], str | None]
    decode: Callable[[Sequence[NDArray[Any]], int, float, tuple[int, int]], Faces]
    threshold: float
    nms_iou: float


ARCHITECTURES = {
    "centerface": Architecture(
        check_outputs=centerface.check_outputs, decode=centerface.decode, threshold=centerface.THRESHOLD, nms_iou=centerface.NMS_IOU
    ),
    "scrfd": Architecture(check_outputs=scrfd.check_outputs, decode=scrfd.decode, threshold=scrfd.THRESHOLD, nms_iou=scrfd.NMS_IOU),
    "yunet": Architecture(check_outputs=yunet.check_outputs, decode=yunet.decode, threshold=yunet.THRESHOLD, nms_iou=yunet.NMS_IOU),
}


def open_detector(spec: ModelSpec, session: Session, *, side_px: int) -> Detector:
    """Return the detector for a loaded model.

    Args:
        spec: The model; its architecture decides how outputs are read.
        session: The loaded model.
        side_px: Longest side to which pictures are shrunk.

    Raises:
        ModelError: the model is no detector.
    """
    architecture = ARCHITECTURES.get(spec.architecture)
    if architecture is None:
        raise ModelError(f"model {spec.name}: is no detector ({spec.architecture}); choose one of {', '.join(ARCHITECTURES)}")
    return GridDetector(spec, session, architecture, side_px=side_px)


class GridDetector:
    """A detector whose output maps are grids over the letterboxed picture. Thread rule: any thread; calls wait for each other."""

    def __init__(self, spec: ModelSpec, session: Session, architecture: Architecture, *, side_px: int) -> None:
        self._spec = spec
        self._session = session
        self._architecture = architecture
        self._side_px = side_px
        self._threshold = architecture.threshold if spec.score_threshold is None else spec.score_threshold
        self._sizes = BATCH_SIZES if spec.input.batch and session.provider != "cpu" else CPU_BATCH_SIZES
        self._buffer: F32 = np.zeros(0, np.float32)
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Name of the model."""
        return self._spec.name

    def detect(self, images: Sequence[Image]) -> list[Faces]:
        """Find the faces of each picture, in its own pixels, best score first.

        Pictures that share an input size run together where that is faster, in batches of fixed sizes.

        Args:
            images: (H, W, 3) uint8 RGB, of any sizes.

        Raises:
            ModelError: the model does not run, or its outputs are not those of its architecture.
        """
        boxes = [self._fit(image) for image in images]
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, box in enumerate(boxes):
            groups[box.canvas_px].append(index)
        found = [Faces.none()] * len(images)
        with self._lock:
            for canvas_px, group in groups.items():
                for batch in fixed_batches(len(group), self._sizes, pad=True):
                    members = group[batch.start : batch.stop]
                    outputs = self._run([(images[i], boxes[i]) for i in members], (batch.size, 3, *canvas_px))
                    for place, i in enumerate(members):
                        faces = self._architecture.decode(outputs, place, self._threshold, canvas_px)
                        found[i] = to_source(faces, boxes[i].scale, nms_iou=self._architecture.nms_iou)
        return found

    def scale_of(self, image: Image) -> float:
        """Return how much a picture is shrunk before it is looked at: input pixels per pixel, <= 1."""
        return self._fit(image).scale

    def _fit(self, image: Image) -> Letterbox:
        spec = self._spec.input
        canvas_px = (spec.height_px, spec.width_px) if spec.height_px and spec.width_px else None
        return fit(image.shape[0], image.shape[1], side_px=self._side_px, canvas_px=canvas_px)

    def _run(self, pictures: list[tuple[Image, Letterbox]], shape: tuple[int, int, int, int]) -> list[NDArray[Any]]:
        """Run one batch; places without a picture hold what was there before, and nobody reads their outputs."""
        size = int(np.prod(shape))
        if len(self._buffer) < size:
            self._buffer = np.zeros(size, np.float32)
        tensor = self._buffer[:size].reshape(shape)
        for place, (image, box) in enumerate(pictures):
            write_tensor(image, box, self._spec.input, tensor[place])
        outputs = self._session.run(tensor)
        problem = self._architecture.check_outputs(outputs)
        if problem:
            raise ModelError(f"model {self._spec.name}: is not a {self._spec.architecture} graph: {problem}")
        return outputs


def to_source(faces: Faces, scale: float, *, nms_iou: float) -> Faces:
    """Suppress doubles and turn input pixels into source pixels; a box with a value that is not finite is no face."""
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(faces.boxes).all(axis=1) & np.isfinite(faces.landmarks).all(axis=(1, 2)))
    if not finite.all():
        faces = faces.take(finite)
    faces = faces.take(suppress(faces.boxes, faces.scores, iou=nms_iou))
    factor = np.float32(1 / scale)
    return Faces(boxes=faces.boxes * factor, landmarks=faces.landmarks * factor, scores=faces.scores)
