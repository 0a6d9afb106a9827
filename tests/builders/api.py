"""A platform for API tests: real stores, and eyes, matcher and enroller small enough to see through."""

import asyncio
import io
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
from pydantic import SecretStr

from api.access.authenticator import Authenticator
from api.cameras.models import CameraView
from api.history.follow import History, Threads
from api.history.index import HistoryIndex
from api.live.hub import EventHub
from api.live.views import Viewer
from api.recognize.cache import LookCache
from api.services import ApiServices
from api.system.models import ReadyCheck
from cli.forgetting import forget_everywhere
from core.adapters.object_store import open_object_store
from core.errors import UnavailableError
from core.metrics import Metrics
from core.models.spec import CalibrationPoint, CalibrationSpec, InputSpec, ModelSpec
from core.ports import Database, MatchAnswer
from core.secrets import SecretBox
from core.settings import ApiSettings, Settings, StorageSettings
from core.types import F32, Candidate, Embeddings, Faces, Image, Quality
from detect.tracker import Look
from embed.calibration import Calibration
from enrollment.record import Added, NewReference, Outcome, Photo, SubjectDetails
from enrollment.service import EnrollOptions
from enrollment.store import GalleryStore
from ingest.cameras import CameraStore
from recognize.rules.rules import Rulebook
from recognize.still import StillRecognizer
from recognize.threshold import ThresholdPolicy
from sightings.store import SightingStore

MODEL = "paper"
DIMENSIONS = 4
TOKEN = "0123456789abcdef-token"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}
"""Headers of an administrator: ``await aiohttp_client(build_app(services(db)), headers=ADMIN)``."""


class PaperVision:
    """Sees one face in each row of a picture: its four red values are the embedding. A black row is no face."""

    embedder = SimpleNamespace(model=MODEL)

    async def call(self, work: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.to_thread(work, *args)

    def look_photo(self, image: Image) -> Look:
        count = int(np.count_nonzero(image[..., 0].any(axis=1)))
        faces = Faces(
            boxes=np.tile(np.array([10, 10, 110, 130], np.float32), (count, 1)),
            landmarks=np.zeros((count, 5, 2), np.float32),
            scores=np.full(count, 0.9, np.float32),
        )
        return Look(faces=faces, patches=np.zeros((count, 1, 1), np.float32), qualities=[Quality(value=0.8, reasons=())] * count)

    def embed(self, image: Image, faces: Faces, _qualities: Sequence[Quality]) -> Embeddings:
        count = len(faces)
        return Embeddings(model=MODEL, vectors=image[:count, :DIMENSIONS, 0].astype(np.float32) / 255, norms=np.ones(count, np.float32))


def picture(*rows: tuple[float, ...]) -> bytes:
    """Return a PNG for PaperVision; without rows, one without faces."""
    image = np.zeros((max(1, len(rows)), DIMENSIONS, 3), np.uint8)
    for place, row in zip(image, rows, strict=False):
        place[:, 0] = np.array(row) * 255
    out = io.BytesIO()
    PIL.Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


@dataclass
class PaperMatcher:
    """Compares with everything it holds."""

    known: dict[str, F32] = field(default_factory=dict)
    subjects: dict[str, str] = field(default_factory=dict)
    """Ids of those who are in the database too."""
    away: bool = False
    generation: int = 0

    async def search(self, probes: F32, *, model: str, collection: str, k: int) -> MatchAnswer:
        if self.away:
            raise UnavailableError("matcher: no shard answers")
        candidates = []
        for probe in probes:
            scores = sorted(((float(probe @ vector), name) for name, vector in self.known.items()), reverse=True)[:k]
            candidates.append(
                tuple(
                    Candidate(
                        subject_id=self.subjects.get(name) or str(uuid.uuid5(uuid.NAMESPACE_DNS, name)),
                        subject=name,
                        reference_id="r",
                        score=score,
                        rank=rank,
                    )
                    for rank, (score, name) in enumerate(scores, 1)
                )
            )
        return MatchAnswer(candidates=tuple(candidates), generation=self.generation, references=len(self.known))

    async def await_visible(self, generation: int) -> None:
        if self.away:
            raise UnavailableError("matcher: no shard answers")


@dataclass
class PaperEnroller:
    """Stores any photo that starts with ``paper``."""

    store: GalleryStore

    async def enroll_all(self, photos: Iterable[Photo], report: Callable[[Outcome], None], options: EnrollOptions) -> None:
        for photo in photos:
            report(await self._enroll(photo, options))

    async def enroll_new(self, photos: Sequence[Photo], details: SubjectDetails, options: EnrollOptions) -> list[Outcome]:
        subject = await self.store.make_subject(photos[0].subject, collection=options.collection, details=details)
        return [await self._enroll(replace(photo, subject_id=subject.subject_id), options) for photo in photos]

    async def enroll_vector(
        self,
        subject: str,
        new: NewReference,
        options: EnrollOptions,
        *,
        subject_id: str | None = None,
        details: SubjectDetails | None = None,
    ) -> Outcome:
        if subject_id:
            (added,) = await self.store.add_references(subject_id, [(new, None)])
        else:
            added = await self.store.add_reference(subject, new, collection=options.collection, details=details)
        return _told(added, Outcome(file=new.source, subject=subject, status="enrolled", quality=new.quality))

    async def _enroll(self, photo: Photo, options: EnrollOptions) -> Outcome:
        data = photo.read()
        if not data.startswith(b"paper"):
            return Outcome(file=photo.file, subject=photo.subject, status="rejected", reason="unreadable", detail="is no picture")
        new = NewReference(
            content_sha256=data.ljust(32)[:32],
            face_index=0,
            source=photo.file,
            face_jpeg=b"",
            landmarks=np.zeros((5, 2), np.float32),
            quality=0.7,
            quality_reasons=(),
            model=MODEL,
            vector=np.ones(DIMENSIONS, np.float32) / 2,
        )
        return await self.enroll_vector(photo.subject, new, options, subject_id=photo.subject_id)


def _told(added: Added, outcome: Outcome) -> Outcome:
    return replace(
        outcome,
        status="unchanged" if added.generation is None else "enrolled",
        subject_id=added.subject_id,
        reference_id=added.reference_id,
        generation=added.generation,
    )


@dataclass
class Platform:
    """What a test can change while the API runs."""

    checks: list[ReadyCheck] = field(default_factory=lambda: [ReadyCheck(name="database", ok=True), ReadyCheck(name="models", ok=True)])
    cameras: list[CameraView] = field(default_factory=list)
    matcher: PaperMatcher = field(default_factory=PaperMatcher)

    async def readiness(self) -> Sequence[ReadyCheck]:
        return self.checks

    async def list_cameras(self) -> Sequence[CameraView]:
        return self.cameras


def calibration() -> Calibration:
    tables = tuple(
        CalibrationSpec(
            kind=kind,
            source="made up",
            comparisons=1,
            points=tuple(CalibrationPoint(far=10.0**-n, score=0.1 * n, measured=True) for n in range(1, 6)),
        )
        for kind in ("single", "track")
    )
    return Calibration.of(
        ModelSpec(
            name=MODEL,
            task="embedder",
            architecture="embedder",
            file="paper.onnx",
            sha256="0" * 64,
            shipped=False,
            licence="",
            commercial_use=True,
            provenance="",
            training_data="",
            input=InputSpec(tensor="x", colour="rgb", mean=0, scale=1),
            calibration=tables,
        )
    )


async def _cameras(db: Database, platform: Platform) -> Sequence[CameraView]:
    """Return the cameras that the platform was told of, and those in the database, which nobody runs."""
    stored = await CameraStore(db, SecretBox(db.vault)).list()
    return [*await platform.list_cameras(), *(CameraView.of(camera, state="waiting") for camera in stored)]


def services(
    db: Database, *, api: ApiSettings | None = None, platform: Platform | None = None, vision: PaperVision | None = None
) -> ApiServices:
    """Return services over a database; change single ones with dataclasses.replace. Without a token in ``api``, TOKEN is it."""
    api = api or ApiSettings()
    settings = Settings(api=api if api.token else api.model_copy(update={"token": SecretStr(TOKEN)}))
    gallery = GalleryStore(db, forget=forget_everywhere(settings))
    platform = platform or Platform()
    matcher = platform.matcher
    metrics = Metrics()
    policy = ThresholdPolicy(calibration=calibration(), settings=settings.recognize)
    book = Rulebook()
    sightings = SightingStore(db, episode_gap=timedelta(seconds=30))
    return ApiServices(
        settings=settings,
        metrics=metrics,
        db=db,
        access=Authenticator(db, settings, metrics),
        events=EventHub(Viewer(db=db, sightings=sightings, cameras=platform.list_cameras)),
        sightings=sightings,
        gallery=gallery,
        enroller=PaperEnroller(gallery),
        history=History(
            db=db,
            store=SightingStore(db, episode_gap=timedelta(seconds=30)),
            index=HistoryIndex(DIMENSIONS, most=settings.history.max_sightings),
            model=MODEL,
            most=settings.history.max_sightings,
            metrics=Metrics(),
            threads=Threads.start(),
        ),
        looks=LookCache(most_bytes=settings.api.cache_bytes, metrics=Metrics()),
        still=StillRecognizer(vision=vision or PaperVision(), matcher=matcher, policy=policy, book=book),  # type: ignore[arg-type]
        await_visible=matcher.await_visible,
        policy=policy,
        book=book,
        matcher=matcher,
        objects=open_object_store(StorageSettings(url="memory:"), data_dir=Path(), vault=db.vault),
        readiness=platform.readiness,
        cameras=lambda: _cameras(db, platform),
    )


def camera_view(name: str, *, state: str = "up") -> CameraView:
    """Return a camera as the API shows it."""
    return CameraView(name=name, url="", region="default", enabled=True, state=state)
