"""Builders of a gallery: calibration, an enroller over painted people, references to store."""

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import numpy as np
import PIL.Image

from core.models.spec import CalibrationPoint, CalibrationSpec
from core.ports import Database
from core.settings import load_settings
from core.types import F32, Image
from embed.calibration import Calibration
from embed.embedder import Embedder
from enrollment.record import NewReference, Photo
from enrollment.service import Enroller
from enrollment.store import GalleryStore
from matcher.client import MatcherClient
from matcher.local import open_local_shard
from matcher.shard import Shard
from matcher.snapshot import catch_up, load_shard
from sightings.forgetting import forget_subject
from tests.builders.models import make_embedder_spec
from tests.builders.painted import DIMENSIONS, PaintedDetector, PaintedEmbedder, painted


def calibration() -> Calibration:
    """False matches at .3 (1 in 10) to .7 (1 in 100,000)."""
    points = tuple(CalibrationPoint(far=10.0**-n, score=0.2 + 0.1 * n, measured=True) for n in range(1, 6))
    tables = tuple(CalibrationSpec(kind=kind, points=points, source="made up", comparisons=1) for kind in ("single", "track"))
    return Calibration.of(make_embedder_spec(calibration=tables))


def unit(seed: int, dimensions: int = DIMENSIONS) -> F32:
    vector = np.random.default_rng(seed).standard_normal(dimensions)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def new_reference(seed: int, **changes: Any) -> NewReference:
    given: dict[str, Any] = {
        "content_sha256": seed.to_bytes(32, "big"),
        "face_index": 0,
        "source": f"{seed}.jpg",
        "face_jpeg": b"\xff\xd8" + bytes([seed % 256]),
        "landmarks": np.arange(10, dtype=np.float32).reshape(5, 2),
        "quality": 0.75,
        "quality_reasons": ("blurred",),
        "model": "painted",
        "vector": unit(seed),
    }
    return NewReference(**(given | changes))


def photo_of(person: int, *, file: str, subject: str, at: tuple[int, int] = (260, 120), size_px: int = 120) -> Photo:
    """A photo of one painted person; the place makes it another photo of the same person."""
    data = png(painted({person: at}, size_px=size_px))
    return Photo(file=file, subject=subject, read=lambda: data)


def png(image: Image) -> bytes:
    out = io.BytesIO()
    PIL.Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


@asynccontextmanager
async def open_enroller(db: Database) -> AsyncIterator[Enroller]:
    """An enroller over painted people, the real store and a real shard."""
    async with open_local_shard(Shard()) as shard:
        await load_shard(db, shard)

        async def await_visible(generation: int) -> None:
            await catch_up(db, shard)
            assert shard.generation >= generation

        yield Enroller(
            store=GalleryStore(db, forget=forget_subject),
            detector=PaintedDetector(),
            embedder=cast(Embedder, PaintedEmbedder()),
            matcher=MatcherClient([shard]),
            calibration=calibration(),
            settings=load_settings(),
            await_visible=await_visible,
        )
