"""Composition: the one place that chooses adapters and puts the rooms together, for commands and for the whole platform."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.resources import files

from core.adapters.ort import OrtSession
from core.adapters.postgres import open_database
from core.live import LiveTracks
from core.metrics import Metrics
from core.models.registry import Registry
from core.models.spec import ModelSpec
from core.ports import Database
from core.runner import first_error
from core.settings import Settings
from detect.detector import Detector, open_detector
from embed.calibration import Calibration
from embed.embedder import Embedder
from enrollment.reembed import reembed
from enrollment.service import Enroller
from enrollment.store import GalleryStore
from matcher.client import MatcherClient
from matcher.local import LocalShard, open_local_shard
from matcher.shard import Shard
from matcher.snapshot import follow_gallery, load_shard
from recognize.recognizer import Recognizer
from recognize.still import StillRecognizer
from recognize.threshold import ThresholdPolicy
from recognize.vision import Vision
from sightings.store import forget_subject

VISIBLE_S = 10.0  # after a change of the gallery committed, searches see it within milliseconds; longer means trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The models in use."""

    detector: Detector
    embedder: Embedder
    calibration: Calibration
    specs: tuple[ModelSpec, ModelSpec]
    """Detector and embedder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """Everything that a command needs which knows faces and enrolled people."""

    settings: Settings
    metrics: Metrics
    db: Database
    models: Models
    store: GalleryStore
    shard: LocalShard
    matcher: MatcherClient
    enroller: Enroller
    policy: ThresholdPolicy
    vision: Vision
    still: StillRecognizer
    executor: ThreadPoolExecutor
    """The thread of the models."""

    @property
    def detector(self) -> Detector:
        """The detector in use."""
        return self.models.detector

    @property
    def embedder(self) -> Embedder:
        """The embedder in use."""
        return self.models.embedder

    @property
    def calibration(self) -> Calibration:
        """What its scores mean."""
        return self.models.calibration

    def recognizer(self, live: LiveTracks | None = None) -> Recognizer:
        """Return a recognizer with no tracks yet."""
        return Recognizer(vision=self.vision, matcher=self.matcher, policy=self.policy, live=live, metrics=self.metrics)

    async def await_visible(self, generation: int) -> None:
        """Return once searches see this generation of the gallery. Raises UnavailableError when they do not in time."""
        await self.shard.wait_generation(generation, VISIBLE_S)

    async def display_names(self) -> dict[str | None, str]:
        """Return {subject: name for people} of the subjects that have one (attribute ``name``)."""
        names: dict[str | None, str] = {}
        after = ""
        while page := await self.store.subjects(self.settings.recognize.collection, after=after):
            after = page[-1].name
            names |= {s.name: str(s.attributes["name"]) for s in page if s.attributes.get("name")}
        return names


def load_models(settings: Settings) -> Models:
    """Load the chosen model set.

    Raises:
        ModelError: a model is unknown, absent, damaged, or has no calibration.
    """
    registry = Registry.load(settings.data_dir)
    chosen = registry.model_set(settings.models.set)
    detector, embedder = registry.model(chosen.detector), registry.model(chosen.embedder)

    def session(spec: ModelSpec) -> OrtSession:
        return OrtSession(registry.path(spec), provider=settings.models.provider, threads=settings.models.threads)

    return Models(
        detector=open_detector(detector, session(detector), side_px=settings.models.detector_side_px),
        embedder=Embedder(embedder, session(embedder)),
        calibration=Calibration.of(embedder),
        specs=(detector, embedder),
    )


@asynccontextmanager
async def open_database_for(settings: Settings) -> AsyncIterator[Database]:
    """Open the database that the settings name, with the schema of this release."""
    migrations = files("deploy") / "migrations"
    async with open_database(settings.database_url, data_dir=settings.data_dir, migrations=migrations) as db:
        yield db


@asynccontextmanager
async def _following(db: Database, shard: LocalShard) -> AsyncIterator[None]:
    """Load the gallery into a shard and keep it up to date inside the block.

    Raises:
        MessageError: a stored embedding is damaged; says which.
    """
    await load_shard(db, shard)
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(follow_gallery(db, shard), name="gallery")
            yield
            task.cancel()
    except BaseExceptionGroup as failed:
        raise first_error(failed) from failed


@asynccontextmanager
async def open_gallery(settings: Settings, metrics: Metrics | None = None) -> AsyncIterator[Gallery]:
    """Load the models, open the database and fill the matcher; references without this model's embedding are embedded first.

    Raises:
        SightlineError: what is missing, in one line.
    """
    metrics = metrics or Metrics()
    models = load_models(settings)
    with ThreadPoolExecutor(1, thread_name_prefix="models") as executor:
        async with open_database_for(settings) as db:
            store = GalleryStore(db, forget=forget_subject)
            await reembed(store, models.embedder)
            async with open_local_shard(Shard(), metrics=metrics) as shard, _following(db, shard):
                matcher = MatcherClient([shard])
                policy = ThresholdPolicy(calibration=models.calibration, settings=settings.recognize)
                vision = Vision(models.detector, models.embedder, executor)
                yield Gallery(
                    settings=settings,
                    metrics=metrics,
                    db=db,
                    models=models,
                    store=store,
                    shard=shard,
                    matcher=matcher,
                    enroller=Enroller(
                        store=store,
                        detector=models.detector,
                        embedder=models.embedder,
                        matcher=matcher,
                        calibration=models.calibration,
                        settings=settings,
                        await_visible=partial(shard.wait_generation, timeout_s=VISIBLE_S),
                        metrics=metrics,
                    ),
                    policy=policy,
                    vision=vision,
                    still=StillRecognizer(vision=vision, matcher=matcher, policy=policy),
                    executor=executor,
                )
