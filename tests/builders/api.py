"""A platform for API tests: real stores, and a photo reader, matcher and enroller small enough to see through."""

import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np

from api.events import EventHub
from api.models import CameraView, ReadyCheck
from api.photo import PhotoFaces
from api.services import ApiServices
from core.errors import UnavailableError, UnreadableMediaError
from core.metrics import Metrics
from core.models.spec import CalibrationPoint, CalibrationSpec, InputSpec, ModelSpec
from core.ports import Database, MatchAnswer
from core.settings import ApiSettings, Settings
from core.types import F32, Candidate, Embeddings, Faces, Quality
from embed.calibration import Calibration
from enrollment.record import NewReference, Outcome, Photo
from enrollment.service import EnrollOptions
from enrollment.store import GalleryStore
from recognize.threshold import ThresholdPolicy
from sightings.store import SightingStore, forget_subject

MODEL = "paper"
DIMENSIONS = 4


class PaperReader:
    """Reads photos like ``face:1,0,0,0`` (one embedding a line); anything else is unreadable."""

    def read(self, data: bytes, *, name: str) -> PhotoFaces:
        if not data.startswith(b"paper"):
            raise UnreadableMediaError(f"{name}: is no picture")
        rows = [[float(value) for value in line.split(",")] for line in data.decode().splitlines()[1:]]
        vectors = np.array(rows, np.float32).reshape(-1, DIMENSIONS)
        count = len(vectors)
        faces = Faces(
            boxes=np.tile(np.array([10, 10, 110, 130], np.float32), (count, 1)),
            landmarks=np.zeros((count, 5, 2), np.float32),
            scores=np.full(count, 0.9, np.float32),
        )
        return PhotoFaces(
            width_px=640,
            height_px=480,
            faces=faces,
            qualities=[Quality(value=0.8, reasons=())] * count,
            embeddings=Embeddings(model=MODEL, vectors=vectors, norms=np.ones(count, np.float32)),
        )


@dataclass
class PaperMatcher:
    """Compares with everything it holds."""

    known: dict[str, F32] = field(default_factory=dict)
    away: bool = False

    async def search(self, probes: F32, *, model: str, collection: str, k: int) -> MatchAnswer:
        if self.away:
            raise UnavailableError("matcher: no shard answers")
        candidates = []
        for probe in probes:
            scores = sorted(((float(probe @ vector), name) for name, vector in self.known.items()), reverse=True)[:k]
            candidates.append(
                tuple(
                    Candidate(subject_id=str(uuid.uuid5(uuid.NAMESPACE_DNS, name)), subject=name, reference_id="r", score=score, rank=rank)
                    for rank, (score, name) in enumerate(scores, 1)
                )
            )
        return MatchAnswer(candidates=tuple(candidates), generation=1, references=len(self.known))

    async def await_visible(self, generation: int) -> None:
        if self.away:
            raise UnavailableError("matcher: no shard answers")


@dataclass
class PaperEnroller:
    """Stores any photo that starts with ``paper``."""

    store: GalleryStore

    async def enroll_all(self, photos: Iterable[Photo], report: Callable[[Outcome], None], options: EnrollOptions) -> None:
        for photo in photos:
            data = photo.read()
            if not data.startswith(b"paper"):
                report(Outcome(file=photo.file, subject=photo.subject, status="rejected", reason="unreadable", detail="is no picture"))
                continue
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
            added = await self.store.add_reference(photo.subject, new, collection=options.collection)
            status = "unchanged" if added.generation is None else "enrolled"
            report(
                Outcome(
                    file=photo.file,
                    subject=photo.subject,
                    status=status,
                    quality=0.7,
                    subject_id=added.subject_id,
                    reference_id=added.reference_id,
                )
            )


@dataclass
class Platform:
    """What a test can change while the API runs."""

    checks: list[ReadyCheck] = field(default_factory=lambda: [ReadyCheck(name="database", ok=True), ReadyCheck(name="models", ok=True)])
    cameras: list[CameraView] = field(default_factory=list)

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


def services(db: Database, *, api: ApiSettings | None = None, platform: Platform | None = None) -> ApiServices:
    """Return services over a database; change single ones with dataclasses.replace."""
    platform = platform or Platform()
    settings = Settings(api=api or ApiSettings())
    gallery = GalleryStore(db, forget=forget_subject)
    matcher = PaperMatcher()
    return ApiServices(
        settings=settings,
        metrics=Metrics(),
        events=EventHub(),
        sightings=SightingStore(db, episode_gap=timedelta(seconds=30)),
        gallery=gallery,
        enroller=PaperEnroller(gallery),
        matcher=matcher,
        await_visible=matcher.await_visible,
        policy=ThresholdPolicy(calibration=calibration(), settings=settings.recognize),
        photos=PaperReader(),
        executor=ThreadPoolExecutor(1),
        readiness=platform.readiness,
        cameras=platform.list_cameras,
    )
