"""Enrolment: photos become references of subjects, one by one judged, stored and made visible before the next is judged.

While the models look at one batch, the next is read and decoded. Judging and storing go in the photos' order, each photo against a
gallery that holds all before it: two photos of one person under two names are noticed within one import too.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import PurePath
from typing import Final

import numpy as np

from core.errors import NotFoundError, UnreadableMediaError, UsageError
from core.metrics import Metrics
from core.photo import UnsupportedPhotoError, decode_photo
from core.ports import Matcher
from core.settings import Settings
from core.types import F32, Image, Quality
from detect.detector import Detector
from detect.photo import detect_photo
from embed.calibration import Calibration
from embed.embedder import Embedder
from embed.quality import assess
from enrollment.faces import WORKING_SIDE_PX, cut_face, working_copy
from enrollment.judge import Policy, Rejection, choose_face, judge_identity, judge_quality
from enrollment.record import Known, NewReference, Outcome, Photo, clean_name
from enrollment.store import GalleryStore

BATCH: Final = 8  # photos the models look at together
READERS: Final = 2  # photos decoded at once: bounds memory (each may have 64 megapixels) and leaves the models a core
CANDIDATES: Final = 3
LOOKALIKE_FPIR: Final = 0.001
"""How often a new person may wrongly be taken for an enrolled one: a wrong rejection costs a person's attention."""
SAME_PICTURE_SHARE: Final = 0.05
"""How near to 1 a score must lie to count as the same picture, as a share of the way from a one-in-100,000 false match to 1. For
fr_feature that is .978: saving 25 press photos anew as JPEG 90 or 70 leaves .973 to 1 (median .997); other photos of one reach .895."""

AwaitVisible = Callable[[int], Awaitable[None]]
"""Returns when the in-process matcher has the given generation of the gallery."""
Report = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollOptions:
    """How to enrol."""

    collection: str = "default"
    allow_lookalike: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A photo that was read: decided already, or decoded."""

    photo: Photo
    sha256: bytes = b""
    image: Image | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """The face of a photo."""

    index: int
    box: F32
    landmarks: F32
    height_px: float
    quality: Quality
    vector: F32


@dataclass(frozen=True, slots=True, kw_only=True)
class Enroller:
    """Puts people into the gallery. Thread rule: one event loop; one import at a time; the models run in worker threads."""

    store: GalleryStore
    detector: Detector
    embedder: Embedder
    matcher: Matcher
    calibration: Calibration
    settings: Settings
    await_visible: AwaitVisible
    metrics: Metrics | None = None

    async def enroll(self, photo: Photo, options: EnrollOptions | None = None) -> Outcome:
        """Enrol one photo; see enroll_all."""
        outcomes: list[Outcome] = []
        await self.enroll_all([photo], outcomes.append, options or EnrollOptions())
        return outcomes[0]

    async def enroll_all(self, photos: Iterable[Photo], report: Report, options: EnrollOptions) -> None:
        """Enrol photos and report what became of each, in their order, as it happens.

        What was reported as enrolled is stored and visible to the matcher. Stopping half-way and starting again costs nothing:
        a photo whose content is known is not looked at again.

        Raises:
            UnavailableError: the database or the matcher does not answer. ModelError: a model does not run.
        """
        ready: asyncio.Queue[list[_Prepared]] = asyncio.Queue(maxsize=1)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._prepare_all(iter(photos), ready, options))
                while batch := await ready.get():
                    await self._finish(batch, report, options)
        except BaseExceptionGroup as failed:
            raise _first_leaf(failed) from failed

    async def _prepare_all(self, photos: Iterator[Photo], ready: asyncio.Queue[list[_Prepared]], options: EnrollOptions) -> None:
        limit = asyncio.Semaphore(READERS)

        async def prepare(photo: Photo) -> _Prepared:
            async with limit:
                return await self._prepare(photo, options)

        while chunk := await asyncio.to_thread(lambda: list(islice(photos, BATCH))):
            await ready.put(await asyncio.gather(*(prepare(photo) for photo in chunk)))
        await ready.put([])

    async def _prepare(self, photo: Photo, options: EnrollOptions) -> _Prepared:
        """Read a photo; recognize its content, or decode it."""
        try:
            data = await asyncio.to_thread(photo.read)
            photo = replace(photo, subject=clean_name(photo.subject))
            sha256 = hashlib.sha256(data).digest()
            known = await self.store.known(sha256, collection=options.collection, model=self.embedder.model)
            if outcome := _known_outcome(photo, known):
                return _Prepared(photo=photo, outcome=outcome)
            return _Prepared(photo=photo, sha256=sha256, image=await asyncio.to_thread(_decode, data, photo.file))
        except UnsupportedPhotoError as err:
            return _Prepared(photo=photo, outcome=_rejected(photo, Rejection(reason="unsupported", detail=_without_name(err, photo))))
        except (UnreadableMediaError, NotFoundError) as err:
            return _Prepared(photo=photo, outcome=_rejected(photo, Rejection(reason="unreadable", detail=_without_name(err, photo))))
        except UsageError as err:
            return _Prepared(photo=photo, outcome=_rejected(photo, Rejection(reason="unsupported", detail=str(err))))

    async def _finish(self, batch: Sequence[_Prepared], report: Report, options: EnrollOptions) -> None:
        images = [prepared.image for prepared in batch if prepared.image is not None]
        found = iter(await asyncio.to_thread(self._look, images) if images else [])
        for prepared in batch:
            outcome = prepared.outcome or await self._decide(prepared, next(found), options)
            if self.metrics is not None:
                self.metrics.enrollments.labels(outcome=outcome.reason or outcome.status).inc()
            report(outcome)

    def _look(self, images: Sequence[Image]) -> list[_Found | Rejection]:
        """Find and embed the face of each photo. Runs in a worker thread."""
        all_faces = [detect_photo(self.detector, image) for image in images]
        chosen = [choose_face(f, width_px=i.shape[1], height_px=i.shape[0]) for i, f in zip(images, all_faces, strict=True)]
        seen = [
            (image, faces.take(np.array([index])), index)
            for image, faces, index in zip(images, all_faces, chosen, strict=True)
            if not isinstance(index, Rejection)
        ]
        views = [self.embedder.views(image, face.landmarks) for image, face, _ in seen]
        vectors: Iterable[F32] = self.embedder.embed_views(np.concatenate(views)).vectors if views else ()
        found = iter(
            _Found(
                index=index,
                box=face.boxes[0],
                landmarks=face.landmarks[0],
                height_px=float(face.boxes[0, 3] - face.boxes[0, 1]),
                quality=assess(image, face)[0],
                vector=vector,
            )
            for (image, face, index), vector in zip(seen, vectors, strict=True)
        )
        return [choice if isinstance(choice, Rejection) else next(found) for choice in chosen]

    async def _decide(self, prepared: _Prepared, found: _Found | Rejection, options: EnrollOptions) -> Outcome:
        """Judge a photo against the gallery as it is now, and store it."""
        photo = prepared.photo
        if isinstance(found, Rejection):
            return _rejected(photo, found)
        answer = await self.matcher.search(found.vector[None], model=self.embedder.model, collection=options.collection, k=CANDIDATES)
        policy = self._policy(answer.references, options)
        rejection = judge_quality(found.quality, found.height_px, policy) or judge_identity(
            answer.candidates[0], subject=photo.subject, policy=policy
        )
        if rejection is not None:
            return replace(_rejected(photo, rejection), quality=found.quality.value)
        face_jpeg, points = await asyncio.to_thread(cut_face, _image(prepared), found.box, found.landmarks)
        added = await self.store.add_reference(
            photo.subject,
            NewReference(
                content_sha256=prepared.sha256,
                face_index=found.index,
                source=photo.file,
                face_jpeg=face_jpeg,
                landmarks=points,
                quality=found.quality.value,
                quality_reasons=found.quality.reasons,
                model=self.embedder.model,
                vector=found.vector,
            ),
            collection=options.collection,
            details=photo.details,
        )
        if added.generation is not None:
            await self.await_visible(added.generation)
        return Outcome(
            file=photo.file,
            subject=photo.subject,
            status="enrolled" if added.generation is not None else "unchanged",
            quality=found.quality.value,
            subject_id=added.subject_id,
            reference_id=added.reference_id,
            generation=added.generation,
        )

    def _policy(self, references: int, options: EnrollOptions) -> Policy:
        return Policy(
            min_face_px=self.settings.recognize.min_face_px,
            lookalike_score=self.calibration.threshold(kind="single", fpir=LOOKALIKE_FPIR, gallery_size=references),
            same_picture_score=1 - SAME_PICTURE_SHARE * (1 - self.calibration.score_at(1e-5, kind="single")),
            allow_lookalike=options.allow_lookalike,
        )


def _image(prepared: _Prepared) -> Image:
    if prepared.image is None:
        raise ValueError(f"{prepared.photo.file}: was decided without being decoded")
    return prepared.image


def _decode(data: bytes, file: str) -> Image:
    return working_copy(decode_photo(data, name=PurePath(file).name, enough_px=WORKING_SIDE_PX))


def _known_outcome(photo: Photo, known: Sequence[Known]) -> Outcome | None:
    """Return what becomes of a photo whose content is in the gallery; None when it must be looked at."""
    own = next((k for k in known if k.subject == photo.subject and k.embedded), None)
    if own is not None and PurePath(own.source).name == PurePath(photo.file).name:
        return Outcome(
            file=photo.file,
            subject=photo.subject,
            status="unchanged",
            quality=own.quality,
            subject_id=own.subject_id,
            reference_id=own.reference_id,
        )
    if own is not None:
        words = f"{photo.subject} has exactly this picture already, from {own.source}"
        return replace(_rejected(photo, Rejection(reason="duplicate_of_same_subject", detail=words)), quality=own.quality)
    other = next((k for k in known if k.subject != photo.subject), None)
    if other is None:
        return None
    words = f"exactly this picture is enrolled as {other.subject}, from {other.source}; use that name, or erase it there first"
    return replace(_rejected(photo, Rejection(reason="duplicate", detail=words)), quality=other.quality)


def _rejected(photo: Photo, rejection: Rejection) -> Outcome:
    return Outcome(file=photo.file, subject=photo.subject, status="rejected", reason=rejection.reason, detail=rejection.detail)


def _without_name(err: Exception, photo: Photo) -> str:
    return str(err).removeprefix(f"{PurePath(photo.file).name}: ")


def _first_leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
