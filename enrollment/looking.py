"""Reading photos and looking at them: which faces there are, which one counts, what it looks like to the models."""

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath

import numpy as np

from core.errors import NotFoundError, UnreadableMediaError, UsageError
from core.photo import UnsupportedPhotoError, decode_photo, upright_size
from core.types import F32, Faces, Image, Quality
from detect.detector import Detector
from detect.photo import detect_photo
from embed.embedder import Embedder
from embed.quality import assess
from enrollment.faces import WORKING_SIDE_PX, working_copy
from enrollment.judge import Rejection, choose_face, pick_face
from enrollment.record import FaceFound, OnDoubt, Outcome, Photo, clean_name
from enrollment.store import GalleryStore
from enrollment.telling import known_outcome, rejected

READERS = 2  # photos decoded at once: bounds memory (each may have 64 megapixels) and leaves the models a core


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A photo that was read: decided already, or decoded."""

    photo: Photo
    sha256: bytes = b""
    image: Image | None = None
    """The working copy."""
    scale: float = 1.0
    """From pixels of the working copy to those of the upright photo."""
    outcome: Outcome | None = None
    doubt: Outcome | None = None
    """What it would be, were there not a wish to look further: exactly this picture is somebody else's."""

    @property
    def decoded(self) -> Image:
        """The working copy of a photo that is not decided yet."""
        if self.image is None:
            raise ValueError(f"{self.photo.file}: was decided without being decoded")
        return self.image


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The face of a photo."""

    index: int
    box: F32
    landmarks: F32
    height_px: float
    quality: Quality
    vector: F32


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What the models saw in a photo."""

    faces: Faces
    """All of them, pixels of the working copy."""
    choice: Found | Rejection

    def told(self, scale: float) -> tuple[FaceFound, ...]:
        """Return all faces, pixels of the upright photo."""
        return tuple(
            FaceFound(index=index, box=(x1, y1, x2, y2), score=round(float(score), 4))
            for index, (score, (x1, y1, x2, y2)) in enumerate(
                zip(self.faces.scores, (np.round(self.faces.boxes * scale, 1)).tolist(), strict=True)
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Eyes:
    """Reads photos and looks at them; any number of imports at once share its limits. Thread rule: one event loop."""

    store: GalleryStore
    detector: Detector
    embedder: Embedder
    readers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(READERS))
    models: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One look at a time: the models use all cores anyway."""

    async def prepare(self, photo: Photo, *, collection: str, on_doubt: OnDoubt) -> Prepared:
        """Read a photo; recognize its content, or decode it."""
        async with self.readers:
            try:
                data = await asyncio.to_thread(photo.read)
                photo = replace(photo, subject=clean_name(photo.subject))
                sha256 = photo.sha256 or hashlib.sha256(data).digest()
                known = await self.store.known(sha256, collection=collection, model=self.embedder.model)
                outcome = known_outcome(photo, known, sha256)
                if outcome is not None and (outcome.reason != "duplicate" or on_doubt == "reject"):
                    return Prepared(photo=photo, outcome=outcome)
                image, scale = await asyncio.to_thread(_decode, data, photo.file)
                return Prepared(photo=photo, sha256=sha256, image=image, scale=scale, doubt=outcome)
            except UnsupportedPhotoError as err:
                return Prepared(photo=photo, outcome=rejected(photo, Rejection(reason="unsupported", detail=_without_name(err, photo))))
            except (UnreadableMediaError, NotFoundError) as err:
                return Prepared(photo=photo, outcome=rejected(photo, Rejection(reason="unreadable", detail=_without_name(err, photo))))
            except UsageError as err:
                return Prepared(photo=photo, outcome=rejected(photo, Rejection(reason="unsupported", detail=str(err))))

    async def look(self, prepared: Sequence[Prepared]) -> list[Looked | None]:
        """Find and embed the face of each photo that is not decided yet; None for the others."""
        undecided = [one for one in prepared if one.image is not None]
        if not undecided:
            return [None] * len(prepared)
        async with self.models:
            looked = iter(await asyncio.to_thread(self._look, undecided))
        return [None if one.image is None else next(looked) for one in prepared]

    def _look(self, prepared: Sequence[Prepared]) -> list[Looked]:
        """Runs in a worker thread."""
        images = [one.decoded for one in prepared]
        all_faces = [detect_photo(self.detector, image) for image in images]
        chosen = [_choose(one, image, faces) for one, image, faces in zip(prepared, images, all_faces, strict=True)]
        seen = [
            (image, faces.take(np.array([index])), index)
            for image, faces, index in zip(images, all_faces, chosen, strict=True)
            if not isinstance(index, Rejection)
        ]
        views = [self.embedder.views(image, face.landmarks) for image, face, _ in seen]
        vectors: Iterable[F32] = self.embedder.embed_views(np.concatenate(views)).vectors if views else ()
        found = iter(
            Found(
                index=index,
                box=face.boxes[0],
                landmarks=face.landmarks[0],
                height_px=float(face.boxes[0, 3] - face.boxes[0, 1]),
                quality=assess(image, face)[0],
                vector=vector,
            )
            for (image, face, index), vector in zip(seen, vectors, strict=True)
        )
        return [
            Looked(faces=faces, choice=choice if isinstance(choice, Rejection) else next(found))
            for faces, choice in zip(all_faces, chosen, strict=True)
        ]


def _choose(prepared: Prepared, image: Image, faces: Faces) -> int | Rejection:
    wanted = prepared.photo.face
    if wanted is None:
        return choose_face(faces, width_px=image.shape[1], height_px=image.shape[0])
    return pick_face(faces, wanted if isinstance(wanted, int) else (wanted[0] / prepared.scale, wanted[1] / prepared.scale))


def _decode(data: bytes, file: str) -> tuple[Image, float]:
    """Return the working copy, and the scale from its pixels to those of the upright photo."""
    image = working_copy(decode_photo(data, name=PurePath(file).name, enough_px=WORKING_SIDE_PX))
    return image, max(upright_size(data)) / max(image.shape[:2])


def _without_name(err: Exception, photo: Photo) -> str:
    return str(err).removeprefix(f"{PurePath(photo.file).name}: ")
