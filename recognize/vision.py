"""Pixels to looks and embeddings: the models of one process behind one executor thread."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import cv2
import numpy as np

from core.types import F32, Embeddings, Faces, Image, Quality
from detect.detector import Detector
from detect.photo import detect_photo
from detect.refine import refine
from detect.tracker import Look
from embed.embedder import Embedder
from embed.quality import assess

CLEAR_QUALITY = 0.6
CLEAR_PX = 112.0  # height of a face's box: as large as the chips of the shipped models, so that nothing is enlarged
PATCH_PX = 12  # side of the coarse grey picture by which a track knows its face again in the next frame

P = ParamSpec("P")
T = TypeVar("T")


class Vision:
    """Detector, embedder and quality measures, run off the event loop.

    Thread rule: ``call`` is the one place where the loop meets the model thread; everything else here is synchronous and
    runs in that thread.
    """

    def __init__(self, detector: Detector, embedder: Embedder, executor: ThreadPoolExecutor) -> None:
        self.detector = detector
        self.embedder = embedder
        self._executor = executor

    async def call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a synchronous method of this object in the model thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: work(*args, **kwargs))

    def look(self, images: Sequence[Image]) -> list[Look]:
        """Find and judge the faces of each image ((H, W, 3) uint8 RGB), batched."""
        return [self._judge(image, faces) for image, faces in zip(images, self.detector.detect(images), strict=True)]

    def look_photo(self, image: Image) -> Look:
        """Find and judge the faces of a single photo, with a second look for tight crops, thumbnails and small faces."""
        return self._judge(image, detect_photo(self.detector, image))

    def embed(self, image: Image, faces: Faces, qualities: Sequence[Quality]) -> Embeddings:
        """Embed the faces of a photo that is searched for, averaged over views; rows in the order of the faces.

        As enrolment does, but clear faces go by fewer views, which is as good.
        """
        clear = np.array([is_clear(quality, box) for quality, box in zip(qualities, faces.boxes, strict=True)], np.bool_)
        vectors, norms = np.zeros((len(faces), self.embedder.dimensions), np.float32), np.zeros(len(faces), np.float32)
        for mask in (clear, ~clear):
            if mask.any():
                found = self.embedder.embed_views(self.embedder.views(image, faces.landmarks[mask], clear=bool(clear[mask][0])))
                vectors[mask], norms[mask] = found.vectors, found.norms
        return Embeddings(model=self.embedder.model, vectors=vectors, norms=norms)

    def embed_shots(self, images: Sequence[Image], faces: Sequence[Faces]) -> list[Embeddings]:
        """Embed the given faces of each video frame, in one view, in one batch; one result a frame, rows in the order of its faces.

        Landmarks are refined first: of its many frames only a track's few best shots pay for it.
        """
        faces = refine(self.detector, images, faces)
        chips = [self.embedder.chips(image, f.landmarks) for image, f in zip(images, faces, strict=True)]
        counts = [len(c) for c in chips]
        if not sum(counts):
            return [_no_embeddings(self.embedder)] * len(counts)
        every = self.embedder.embed(np.concatenate([c for c in chips if len(c)]))
        ends = np.cumsum(counts)
        return [
            Embeddings(model=every.model, vectors=every.vectors[end - n : end], norms=every.norms[end - n : end])
            for n, end in zip(counts, ends, strict=True)
        ]

    def _judge(self, image: Image, faces: Faces) -> Look:
        patches = np.stack([patch_of(image, box) for box in faces.boxes]) if len(faces) else np.zeros((0, PATCH_PX, PATCH_PX), np.float32)
        return Look(faces=faces, patches=patches, qualities=assess(image, faces))


def is_clear(quality: Quality, box: F32) -> bool:
    """Tell whether a face is so large and sharp that averaging over many views adds nothing."""
    return quality.value >= CLEAR_QUALITY and float(box[3] - box[1]) >= CLEAR_PX


def _no_embeddings(embedder: Embedder) -> Embeddings:
    return Embeddings(model=embedder.model, vectors=np.zeros((0, embedder.dimensions), np.float32), norms=np.zeros(0, np.float32))


def crop_of(image: Image, box: F32, *, margin: float) -> Image:
    """Return the view of the image inside a (4,) box grown by ``margin`` of its size on each side; at least 1 x 1 px."""
    height, width = image.shape[:2]
    grow = margin * (box[2:] - box[:2])
    x1, y1 = np.clip((box[:2] - grow).astype(int), 0, (width - 1, height - 1))
    x2, y2 = np.clip((box[2:] + grow).astype(int), (x1 + 1, y1 + 1), (width, height))
    return image[y1:y2, x1:x2]


def patch_of(image: Image, box: F32) -> F32:
    """Return the (PATCH_PX, PATCH_PX) float32 grey patch of a face, from the green channel."""
    view = crop_of(image, box, margin=0.0)[..., 1]
    step = max(1, min(view.shape) // (4 * PATCH_PX))
    small = cv2.resize(view[::step, ::step], (PATCH_PX, PATCH_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)
