"""Model code on frames from the network: one hostile frame must not stop the others, nor every worker that reads it in turn."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from core.errors import ModelError
from core.types import Embeddings, Faces, Image
from detect.tracker import Look
from recognize.vision import Vision

T = TypeVar("T")
CONTROL_PX = 320
CONTROL: Image = np.full((CONTROL_PX, CONTROL_PX, 3), 127, np.uint8)
CONTROL_FACE = Faces(
    boxes=np.array([[96, 96, 224, 224]], np.float32),
    landmarks=np.array([[[130, 140], [190, 140], [160, 170], [138, 195], [182, 195]]], np.float32),
    scores=np.ones(1, np.float32),
)


@dataclass(frozen=True, slots=True)
class Broken:
    """A frame that the models can't take."""

    error: Exception

    @property
    def reason(self) -> str:
        """One line for the dead-letter topic."""
        return f"the models can't take this frame: {type(self.error).__name__}: {self.error}".splitlines()[0][:500]


async def look_at(vision: Vision, images: Sequence[Image]) -> list[Look | Broken]:
    """Find the faces of each image in one batch, or one by one when the batch fails.

    Raises:
        Exception: the models fail on a plain grey picture too: then it is no frame's fault.
    """

    async def control() -> None:
        await vision.call(lambda: _finite(vision.look([CONTROL])))

    return await _batch_or_each(vision, lambda at: _finite(vision.look([images[i] for i in at])), len(images), control)


async def embed_at(vision: Vision, images: Sequence[Image], faces: Sequence[Faces]) -> list[Embeddings | Broken]:
    """Embed the given faces of each image in one batch, or one by one when the batch fails.

    Raises:
        Exception: the models fail on a plain grey picture too: then it is no frame's fault.
    """

    async def control() -> None:
        await vision.call(vision.embed_shots, [CONTROL], [CONTROL_FACE])

    return await _batch_or_each(
        vision, lambda at: vision.embed_shots([images[i] for i in at], [faces[i] for i in at]), len(images), control
    )


def _finite(looks: list[Look]) -> list[Look]:
    for look in looks:
        if not all(np.isfinite(values).all() for values in (look.faces.boxes, look.faces.landmarks, look.faces.scores)):
            raise ModelError("the detector's boxes are not finite")
    return looks


async def _batch_or_each(
    vision: Vision, work: Callable[[Sequence[int]], list[T]], count: int, control: Callable[[], Awaitable[None]]
) -> list[T | Broken]:
    batch = await _attempt(vision, work, range(count))
    if not isinstance(batch, Broken):
        return list(batch)
    results: list[T | Broken] = []
    for index in range(count):
        one = await _attempt(vision, work, [index])
        if isinstance(one, Broken):
            await control()
            results.append(one)
        else:
            results += one
    return results


async def _attempt(vision: Vision, work: Callable[[Sequence[int]], list[T]], at: Sequence[int]) -> list[T] | Broken:
    try:
        return await vision.call(work, at)
    except Exception as err:  # noqa: BLE001 - what a hostile frame makes a decoder or a model raise can't be listed
        return Broken(err)
