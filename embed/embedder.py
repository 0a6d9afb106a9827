"""Embedder: chips in, unit vectors out."""

import threading

import cv2
import numpy as np

from core.batches import fixed_batches
from core.errors import ModelError
from core.models.spec import ModelSpec
from core.ports import Session
from core.types import F32, U8, Embeddings, Image, check_array
from embed.align import TEMPLATES, cut_chips

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
"""Chips per run of the model on a GPU, the last batch filled up."""
CPU_BATCH_SIZES = (1, 2)
"""On a CPU larger batches outgrow the cache. ms of CPU per face in batches of 1, 2, 4, 8, 32: fr_feature 5.0, 5.0, 6.1, 6.7, 8.5; dlib
int8 3.1, 2.6, 2.2, 2.1, 2.1."""
SMALLEST_NORM = 1e-6
"""Below this an output has no direction; real ones lie between 0.5 and 50."""


class Embedder:
    """Turns faces into embeddings of one model. Thread rule: any thread; calls of ``embed`` wait for each other."""

    def __init__(self, spec: ModelSpec, session: Session) -> None:
        """Check that the model is an embedder that we can feed.

        Raises:
            ModelError: no template or no length in its registry entry, or an input size that is not the template's.
        """
        if spec.template is None or spec.dimensions is None:
            raise ModelError(f"model {spec.name}: is no embedder (its registry entry has no template or dimensions)")
        self._side = TEMPLATES[spec.template].side_px
        if {spec.input.height_px, spec.input.width_px} != {self._side}:
            got = f"{spec.input.width_px}x{spec.input.height_px}"
            raise ModelError(f"model {spec.name}: template {spec.template} makes {self._side} px chips, but its input is {got}")
        self.model = spec.name
        self.dimensions = spec.dimensions
        self._spec = spec
        self._template = TEMPLATES[spec.template]
        self._session = session
        self._on_cpu = session.provider == "cpu"
        self._sizes = (1,) if not spec.input.batch else CPU_BATCH_SIZES if self._on_cpu else BATCH_SIZES
        self._buffer: F32 = np.zeros((0, 3, self._side, self._side), np.float32)
        self._lock = threading.Lock()

    def chips(self, image: Image, landmarks: F32) -> U8:
        """Cut the chip of each face of a video frame.

        Args:
            image: (H, W, 3) uint8 RGB.
            landmarks: (N, 5, 2) float32 in the image's pixels.

        Returns:
            (N, side, side, 3) uint8 RGB.
        """
        return cut_chips(image, landmarks, self._template, self._template.shot)

    def views(self, image: Image, landmarks: F32, *, clear: bool = False) -> U8:
        """Cut the chips of each face of a photo, in all views of the model's template.

        Args:
            image: (H, W, 3) uint8 RGB.
            landmarks: (N, 5, 2) float32 in the image's pixels.
            clear: large and sharp faces that are searched for: fewer views do.

        Returns:
            (N, V, side, side, 3) uint8 RGB.
        """
        views = self._template.clear if clear else self._template.photo
        return np.stack([cut_chips(image, landmarks, self._template, view) for view in views], axis=1)

    def embed(self, chips: U8) -> Embeddings:
        """Embed chips, in batches of fixed sizes.

        A chip for which the model gives no direction (zero, or not finite) gets a zero vector and norm 0: it scores 0 against everything,
        so it is never a match.

        Args:
            chips: (N, side, side, 3) uint8 RGB, as from ``chips``.

        Raises:
            ModelError: the model does not run, or its output has another length than its registry entry says.
        """
        check_array("chips", chips, (None, self._side, self._side, 3), np.uint8)
        raw = np.empty((len(chips), self.dimensions), np.float32)
        with self._lock:
            for batch in fixed_batches(len(chips), self._sizes, pad=not self._on_cpu):
                output = self._session.run(self._tensor(chips[batch.start : batch.stop], batch.size))[0]
                if output.shape != (batch.size, self.dimensions):
                    expected = f"{batch.size}x{self.dimensions}"
                    raise ModelError(f"model {self.model}: expected output {expected}, got {'x'.join(map(str, output.shape))}")
                raw[batch.start : batch.stop] = output[: len(batch)]
        return normalised(raw, self.model)

    def embed_views(self, views: U8) -> Embeddings:
        """Embed faces of photos: the mean over the views of each, brought to norm 1 again.

        A view without a direction (see ``embed``) counts for nothing; a face all of whose views lack one gets a zero vector and norm 0.

        Args:
            views: (N, V, side, side, 3) uint8 RGB, as from ``views``.

        Returns:
            One row a face; its norm is the mean of its views' norms.

        Raises:
            ModelError: as ``embed``.
        """
        check_array("views", views, (None, None, self._side, self._side, 3), np.uint8)
        faces, count = views.shape[:2]
        every = self.embed(views.reshape(-1, *views.shape[2:]))
        mean = every.vectors.reshape(faces, count, self.dimensions).mean(axis=1)
        norms = every.norms.reshape(faces, count).mean(axis=1)
        return Embeddings(model=self.model, vectors=normalised(mean, self.model).vectors, norms=norms)

    def _tensor(self, chips: U8, size: int) -> F32:
        """Write chips as (size, 3, side, side) into the buffer; unused places hold what was there before."""
        if len(self._buffer) < size:
            self._buffer = np.zeros((size, *self._buffer.shape[1:]), np.float32)
        tensor = self._buffer[:size]
        spec = self._spec.input
        for place, chip in zip(tensor, chips, strict=False):
            planes = cv2.split(chip)
            for target, plane in zip(place, planes if spec.colour == "rgb" else reversed(planes), strict=True):
                target[...] = plane
        used = tensor[: len(chips)]
        if spec.mean:
            used -= np.float32(spec.mean)
        if spec.scale != 1:
            used *= np.float32(spec.scale)
        return tensor


def normalised(raw: F32, model: str) -> Embeddings:
    """Bring (N, D) float32 to unit length; rows without a direction become zero with norm 0."""
    norms = np.linalg.norm(raw, axis=1)
    good = np.isfinite(norms) & (norms > SMALLEST_NORM)
    vectors = np.zeros_like(raw)
    np.divide(raw, norms[:, None], out=vectors, where=good[:, None])
    return Embeddings(model=model, vectors=vectors, norms=np.where(good, norms, 0).astype(np.float32))
