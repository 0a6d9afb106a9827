"""Enrolment: photos become references of subjects, each judged against everything that was enrolled before it.

While the models look at one batch, the next is read and decoded. Judging and storing go in the photos' order. What the matcher has not
seen yet when it is asked, the database shows in the transaction that stores (enrollment.references.Check): two photos of one person under
two names are noticed within one import, and between imports that run at once, in any number of processes. So nobody waits for anybody
else's change to become visible; a batch waits once for its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

from core.jpeg import encode_jpeg
from core.metrics import Metrics
from core.ports import MatchAnswer, Matcher
from core.settings import Settings
from core.types import Candidate
from detect.detector import Detector
from embed.calibration import Calibration
from embed.embedder import Embedder
from enrollment.faces import FACE_QUALITY, cut_face
from enrollment.judge import Policy, Rejection, judge_identity, judge_quality
from enrollment.looking import Eyes, Found, Looked, Prepared
from enrollment.record import Added, NewReference, OnDoubt, Outcome, Photo, SubjectDetails, Warned
from enrollment.set_aside import Doubtful, SetAsideStore
from enrollment.store import Check, GalleryStore
from enrollment.telling import lookalikes, newest, rejected

BATCH: Final = 8  # photos the models look at together
CANDIDATES: Final = 3
LOOKALIKE_FPIR: Final = 0.001
"""How often a new person may wrongly be taken for an enrolled one: a wrong rejection costs a person's attention."""
SAME_PICTURE_SHARE: Final = 0.05
"""How near to 1 a score must lie to count as the same picture, as a share of the way from a one-in-100,000 false match to 1. For
fr_feature that is .978: saving 25 press photos anew as JPEG 90 or 70 leaves .973 to 1 (median .997); other photos of one reach .895."""
NO_DOUBT: Final = frozenset({"no_face", "no_such_face", "duplicate_of_same_subject", "unreadable", "unsupported"})
"""Rejections that nobody's second look would change: such a photo is never set aside."""

AwaitVisible = Callable[[int], Awaitable[None]]
"""Returns when every matcher has the given generation of the gallery."""
Report = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollOptions:
    """How to enrol."""

    collection: str = "default"
    allow_lookalike: bool = False
    on_doubt: OnDoubt = "reject"
    """``set_aside`` keeps what is doubtful for somebody to decide on; ``enroll`` enrols poor faces and lookalikes, with their warnings. A
    photo with several faces needs ``Photo.face`` in either case."""
    wait: bool = True
    """What is reported is visible to the matcher; without, the outcomes' generations say what to wait for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """A face that may be stored."""

    prepared: Prepared
    looked: Looked
    new: NewReference
    check: Check
    warnings: tuple[Warned, ...]


class _RefusedError(Exception):
    """What was enrolled since the matcher answered speaks against a face. Never leaves this module."""

    def __init__(self, rejection: Rejection, warnings: tuple[Warned, ...]) -> None:
        super().__init__(rejection.detail)
        self.rejection = rejection
        self.warnings = warnings


@dataclass(frozen=True, kw_only=True)
class Enroller:
    """Puts people into the gallery. Thread rule: one event loop; any number of imports at once; the models run in worker threads."""

    store: GalleryStore
    detector: Detector
    embedder: Embedder
    matcher: Matcher
    calibration: Calibration
    settings: Settings
    await_visible: AwaitVisible
    metrics: Metrics | None = None
    eyes: Eyes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "eyes", Eyes(store=self.store, detector=self.detector, embedder=self.embedder))

    async def enroll(self, photo: Photo, options: EnrollOptions | None = None) -> Outcome:
        """Enrol one photo; see enroll_all."""
        outcomes: list[Outcome] = []
        await self.enroll_all([photo], outcomes.append, options or EnrollOptions())
        return outcomes[0]

    async def enroll_all(self, photos: Iterable[Photo], report: Report, options: EnrollOptions) -> None:
        """Enrol photos and report what became of each, in their order, as it happens.

        What was reported as enrolled is stored and (see ``EnrollOptions.wait``) visible to the matcher. Stopping half-way and starting
        again costs nothing: a photo whose content is known is not looked at again.

        Raises:
            UnavailableError: the database or the matcher does not answer. ModelError: a model does not run.
        """
        ready: asyncio.Queue[list[Prepared]] = asyncio.Queue(maxsize=1)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._prepare_all(iter(photos), ready, options))
                while batch := await ready.get():
                    await self._finish(batch, report, options)
        except BaseExceptionGroup as failed:
            raise _first_leaf(failed) from failed

    async def enroll_new(self, photos: Sequence[Photo], details: SubjectDetails, options: EnrollOptions) -> list[Outcome]:
        """Make a subject of photos, all of them or nothing, in one transaction.

        Args:
            photos: of one person; all under the one new name. At most as many as may be in memory together.
            details: of the subject.
            options: ``set_aside`` is taken for ``reject`` here.

        Returns:
            What became of each photo, in their order; unless every one is enrolled (or a second copy, ``unchanged``), none is.

        Raises:
            ConflictError: the name or external id is taken. As enroll_all.
        """
        options = replace(options, on_doubt="reject") if options.on_doubt == "set_aside" else options
        prepared = await asyncio.gather(*(self._prepare(photo, options) for photo in photos))
        judged: list[_Judged | Outcome] = []
        for one, looked in zip(prepared, await self.eyes.look(prepared), strict=True):
            judged.append(await self._judge(one, looked, options, alone=True))
        faces = [one for one in judged if isinstance(one, _Judged)]
        if len(faces) < len(judged) or not faces:
            return [_held_back(one) if isinstance(one, _Judged) else one for one in judged]
        try:
            added = await self.store.make_subject_with(
                photos[0].subject, [(one.new, one.check) for one in faces], collection=options.collection, details=details
            )
        except _RefusedError as refused:
            held = [_held_back(one) for one in faces]
            held[0] = replace(held[0], reason=refused.rejection.reason, detail=refused.rejection.detail, warnings=refused.warnings)
            return held
        outcomes = [_enrolled(one, place) for one, place in zip(faces, added, strict=True)]
        await self._wait(outcomes, options)
        return [self._counted(outcome) for outcome in outcomes]

    async def enroll_vector(
        self,
        subject: str,
        new: NewReference,
        options: EnrollOptions,
        *,
        subject_id: str | None = None,
        details: SubjectDetails | None = None,
    ) -> Outcome:
        """Store a face that was embedded before, with its picture, as a reference: of a sighting, of an unknown person, of an import.

        Args:
            subject: name; made if new, unless ``subject_id`` is given.
            new: the face; its model must be the one in use for it to be matched. ``content_sha256`` with ``face_index`` makes it
                idempotent: take the hash of something that stays the same, such as the embedding's bytes.
            options: ``on_doubt="enroll"`` stores whoever it looks like, with warnings; otherwise lookalikes are rejected. Quality is
                not judged, nor whether the subject has a picture like it already.
            subject_id: of a subject that is there.
            details: merged into the subject; with ``subject_id`` they are not used.

        Returns:
            ``enrolled``, ``unchanged`` or ``rejected``.

        Raises:
            NotFoundError: no subject of this id. UnavailableError: the database or the matcher does not answer.
        """
        photo = Photo(file=new.source, subject=subject, read=bytes, subject_id=subject_id, details=details or SubjectDetails())
        answer = await self.matcher.search(new.vector[None], model=new.model, collection=options.collection, k=CANDIDATES)
        check = self._check(photo, answer, options, alone=True)
        try:
            check.judge(())
            added = await self._store(photo, new, check, options)
        except _RefusedError as refused:
            return self._counted(replace(rejected(photo, refused.rejection), warnings=refused.warnings, quality=new.quality))
        warnings = lookalikes(answer.candidates[0], subject=subject, policy=self._policy(answer.references, options))
        outcome = Outcome(
            file=new.source,
            subject=subject,
            status="unchanged" if added.generation is None else "enrolled",
            quality=new.quality,
            quality_reasons=new.quality_reasons,
            warnings=warnings,
            subject_id=added.subject_id,
            reference_id=added.reference_id,
            generation=added.generation,
        )
        await self._wait([outcome], options)
        return self._counted(outcome)

    async def _prepare_all(self, photos: Iterator[Photo], ready: asyncio.Queue[list[Prepared]], options: EnrollOptions) -> None:
        while chunk := await asyncio.to_thread(lambda: list(islice(photos, BATCH))):
            await ready.put(await asyncio.gather(*(self._prepare(photo, options) for photo in chunk)))
        await ready.put([])

    async def _prepare(self, photo: Photo, options: EnrollOptions) -> Prepared:
        return await self.eyes.prepare(photo, collection=options.collection, on_doubt=options.on_doubt)

    async def _finish(self, batch: Sequence[Prepared], report: Report, options: EnrollOptions) -> None:
        outcomes = []
        for prepared, looked in zip(batch, await self.eyes.look(batch), strict=True):
            outcomes.append(await self._decide(prepared, looked, options))
        await self._wait(outcomes, options)
        for outcome in outcomes:
            report(self._counted(outcome))

    async def _decide(self, prepared: Prepared, looked: Looked | None, options: EnrollOptions) -> Outcome:
        """Judge a photo against the gallery as it is now, and store it, or set it aside."""
        judged = await self._judge(prepared, looked, options)
        if isinstance(judged, _Judged):
            try:
                return _enrolled(judged, await self._store(prepared.photo, judged.new, judged.check, options))
            except _RefusedError as refused:
                judged = _seen(replace(rejected(prepared.photo, refused.rejection), warnings=refused.warnings), prepared, judged.looked)
        if looked is None or options.on_doubt != "set_aside" or judged.status != "rejected" or judged.reason in NO_DOUBT:
            return judged
        return await self._set_aside(prepared, looked, judged, options)

    async def _judge(self, prepared: Prepared, looked: Looked | None, options: EnrollOptions, *, alone: bool = False) -> _Judged | Outcome:
        """Return a face that may be stored, or what becomes of the photo instead.

        ``alone``: all photos are of one new subject; pictures that are alike among themselves are no reason against it.
        """
        photo = prepared.photo
        if prepared.outcome is not None or looked is None:
            return prepared.outcome or rejected(photo, Rejection(reason="unreadable", detail="was not decoded"))
        found = looked.choice
        if isinstance(found, Rejection):
            return _seen(rejected(photo, found), prepared, looked)
        answer = await self.matcher.search(found.vector[None], model=self.embedder.model, collection=options.collection, k=CANDIDATES)
        policy = self._policy(answer.references, options)
        warnings = lookalikes(answer.candidates[0], subject=photo.subject, policy=policy)
        rejection = judge_quality(found.quality, found.height_px, policy)
        if rejection is None and prepared.doubt is not None and options.on_doubt != "enroll":
            return _seen(prepared.doubt, prepared, looked)
        rejection = rejection or judge_identity(answer.candidates[0], subject=photo.subject, policy=policy)
        if rejection is not None:
            return _seen(replace(rejected(photo, rejection), warnings=warnings), prepared, looked)
        return _Judged(
            prepared=prepared,
            looked=looked,
            new=await self._reference(prepared, found),
            check=self._check(photo, answer, options, alone=alone),
            warnings=(*(prepared.doubt.warnings if prepared.doubt else ()), *warnings),
        )

    def _check(self, photo: Photo, answer: MatchAnswer, options: EnrollOptions, *, alone: bool) -> Check:
        """Return the last look, at what the matcher's answer does not hold yet."""
        policy = self._policy(answer.references, options)

        def judge(newer: Sequence[Candidate]) -> None:
            candidates = [*answer.candidates[0], *newer]
            rejection = judge_identity(candidates, subject=photo.subject, policy=policy)
            if rejection is not None and not (alone and rejection.reason == "duplicate_of_same_subject"):
                raise _RefusedError(rejection, lookalikes(candidates, subject=photo.subject, policy=policy))

        return Check(since=answer.generation, judge=judge)

    async def _reference(self, prepared: Prepared, found: Found) -> NewReference:
        face_jpeg, points = await asyncio.to_thread(cut_face, prepared.decoded, found.box, found.landmarks)
        return NewReference(
            content_sha256=prepared.sha256,
            face_index=found.index,
            source=prepared.photo.file,
            face_jpeg=face_jpeg,
            landmarks=points,
            quality=found.quality.value,
            quality_reasons=found.quality.reasons,
            model=self.embedder.model,
            vector=found.vector,
        )

    async def _store(self, photo: Photo, new: NewReference, check: Check, options: EnrollOptions) -> Added:
        if photo.subject_id is not None:
            return (await self.store.add_references(photo.subject_id, [(new, check)]))[0]
        return await self.store.add_reference(photo.subject, new, collection=options.collection, details=photo.details, check=check)

    async def _set_aside(self, prepared: Prepared, looked: Looked, outcome: Outcome, options: EnrollOptions) -> Outcome:
        image = prepared.decoded
        doubtful = Doubtful(
            photo=prepared.photo,
            sha256=prepared.sha256,
            picture=await asyncio.to_thread(encode_jpeg, image, FACE_QUALITY),
            width_px=image.shape[1],
            height_px=image.shape[0],
            faces=looked.told(1.0),
            face_index=outcome.face_index,
            reason=outcome.reason,
            detail=outcome.detail,
            warnings=outcome.warnings,
        )
        set_aside_id, subject_id = await SetAsideStore(self.store.db).put(doubtful, collection=options.collection)
        return replace(outcome, status="set_aside", set_aside_id=set_aside_id, subject_id=subject_id)

    async def _wait(self, outcomes: Sequence[Outcome], options: EnrollOptions) -> None:
        if options.wait and (generation := newest(outcomes)) is not None:
            await self.await_visible(generation)

    def _counted(self, outcome: Outcome) -> Outcome:
        if self.metrics is not None:
            self.metrics.enrollments.labels(outcome=outcome.reason or outcome.status).inc()
        return outcome

    def _policy(self, references: int, options: EnrollOptions) -> Policy:
        anything = options.on_doubt == "enroll"
        policy = Policy(
            min_face_px=self.settings.recognize.min_face_px,
            lookalike_score=self.calibration.threshold(kind="single", fpir=LOOKALIKE_FPIR, gallery_size=references),
            same_picture_score=1 - SAME_PICTURE_SHARE * (1 - self.calibration.score_at(1e-5, kind="single")),
            allow_lookalike=options.allow_lookalike or anything,
        )
        return replace(policy, min_face_px=0.0, min_quality=0.0) if anything else policy


def _seen(outcome: Outcome, prepared: Prepared, looked: Looked) -> Outcome:
    """Return an outcome with what the models saw."""
    found = looked.choice
    outcome = replace(outcome, faces=looked.told(prepared.scale))
    if isinstance(found, Rejection):
        return outcome
    return replace(outcome, quality=found.quality.value, quality_reasons=found.quality.reasons, face_index=found.index)


def _enrolled(judged: _Judged, added: Added) -> Outcome:
    photo = judged.prepared.photo
    outcome = Outcome(
        file=photo.file,
        subject=photo.subject,
        status="unchanged" if added.generation is None else "enrolled",
        warnings=judged.warnings,
        subject_id=added.subject_id,
        reference_id=added.reference_id,
        generation=added.generation,
    )
    return _seen(outcome, judged.prepared, judged.looked)


def _held_back(judged: _Judged) -> Outcome:
    words = "is good, and not enrolled because another photo is not"
    outcome = rejected(judged.prepared.photo, Rejection(reason="others_rejected", detail=words))
    return _seen(outcome, judged.prepared, judged.looked)


def _first_leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
