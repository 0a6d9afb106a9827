"""Composition: the one place that chooses adapters and puts the rooms together, for commands and for the whole platform."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cli.database import open_database_for
from cli.forgetting import forget_everywhere
from core.adapters.amqp import open_amqp
from core.adapters.ort import OrtSession
from core.live import LiveTracks
from core.metrics import Metrics
from core.models.registry import Registry
from core.models.spec import ModelSpec
from core.ports import Database, Matcher
from core.runner import first_error
from core.settings import Settings
from detect.detector import Detector, open_detector
from embed.calibration import Calibration
from embed.embedder import Embedder
from enrollment.reembed import reembed
from enrollment.service import Enroller
from enrollment.store import GalleryStore
from matcher.client import MatcherClient
from matcher.gathering import missing_from
from matcher.local import LocalShard, open_local_shard
from matcher.presence import open_replicas
from matcher.remote import open_remote_matcher
from matcher.shard import Shard
from matcher.snapshot import follow_gallery, load_shard
from recognize.recognizer import Recognizer
from recognize.rules.follow import open_rulebook
from recognize.rules.rules import Rulebook
from recognize.still import StillRecognizer
from recognize.threshold import ThresholdPolicy
from recognize.vision import Vision

IN_PROCESS = "memory:"
BATCH_FRAMES = 8  # looked at together on a GPU: enough to fill a small one, a tenth of a second of a camera
VISIBLE_S = 10.0  # after a change of the gallery committed, searches see it within milliseconds; longer means trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The models in use."""

    detector: Detector
    embedder: Embedder
    calibration: Calibration
    specs: tuple[ModelSpec, ModelSpec]
    """Detector and embedder."""
    provider: str
    """Where the detector runs: ``cpu``, ``cuda``, ``tensorrt``."""

    def batch_frames(self, settings: Settings) -> int:
        """Return how many frames are looked at together.

        On a CPU a frame of a batch costs what it costs alone (measured: 47 to 50 ms each in batches of 1 to 8), and the first would
        wait for the last.
        """
        return settings.recognize.batch_frames or (1 if self.provider == "cpu" else BATCH_FRAMES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """The matcher, wherever it runs."""

    matcher: Matcher
    await_visible: Callable[[int], Awaitable[None]]
    """Returns once searches see this generation of the gallery; UnavailableError when they do not in time."""
    problem: Callable[[], Awaitable[str]]
    """Why searches can't be answered in full right now, in one line; "" when they can. Raises UnavailableError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """Everything that a command needs which knows faces and enrolled people."""

    settings: Settings
    metrics: Metrics
    db: Database
    models: Models
    store: GalleryStore
    matching: Matching
    enroller: Enroller
    policy: ThresholdPolicy
    book: Rulebook
    """The rules in force: thresholds, wrong names, opt-outs."""
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
    def matcher(self) -> Matcher:
        """Who is this?"""
        return self.matching.matcher

    @property
    def calibration(self) -> Calibration:
        """What its scores mean."""
        return self.models.calibration

    def recognizer(self, live: LiveTracks | None = None) -> Recognizer:
        """Return a recognizer with no tracks yet."""
        return Recognizer(vision=self.vision, matcher=self.matcher, policy=self.policy, book=self.book, live=live, metrics=self.metrics)

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

    eyes = session(detector)
    return Models(
        detector=open_detector(detector, eyes, side_px=settings.models.detector_side_px),
        embedder=Embedder(embedder, session(embedder)),
        calibration=Calibration.of(embedder),
        specs=(detector, embedder),
        provider=eyes.provider,
    )


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
async def _open_matching(settings: Settings, db: Database, metrics: Metrics) -> AsyncIterator[Matching]:
    """Fill a matcher in this process (``broker_url = "memory:"``), or reach the fleet's."""
    if settings.broker_url == IN_PROCESS:
        own = Shard(storage=settings.matcher.storage, directory=settings.data_dir)
        async with open_local_shard(own, metrics=metrics) as shard, _following(db, shard):
            yield _local(shard)
        return
    async with (
        open_amqp(settings.broker_url, settings.broker, name="sightline gallery", metrics=metrics) as broker,
        open_remote_matcher(broker, timeout_s=settings.matcher.timeout_s, metrics=metrics) as matcher,
        open_replicas(db) as replicas,
    ):

        async def problem() -> str:
            ready = {replica.shard for replica in await replicas.live() if replica.ready}
            if not ready:
                return "no matcher is ready: start `sightline match` for every shard"
            missing = ", ".join(shard.label for shard in missing_from(ready))
            return f"no matcher is ready for shard {missing}" if missing else ""

        yield Matching(matcher=matcher, await_visible=lambda generation: replicas.await_visible(generation, VISIBLE_S), problem=problem)


def _local(shard: LocalShard) -> Matching:
    async def problem() -> str:
        return "" if shard.generation >= 0 else "the gallery is still being loaded"

    return Matching(
        matcher=MatcherClient([shard]),
        await_visible=lambda generation: shard.wait_generation(generation, VISIBLE_S),
        problem=problem,
    )


@asynccontextmanager
async def open_gallery(settings: Settings, metrics: Metrics | None = None) -> AsyncIterator[Gallery]:
    """Load the models, open the database and the matcher; references without this model's embedding are embedded first.

    Raises:
        SightlineError: what is missing, in one line.
    """
    metrics = metrics or Metrics()
    models = load_models(settings)
    with ThreadPoolExecutor(1, thread_name_prefix="models") as executor:
        async with open_database_for(settings) as db:
            store = GalleryStore(db, forget=forget_everywhere(settings))
            await reembed(store, models.embedder)
            async with _open_matching(settings, db, metrics) as matching, open_rulebook(db) as book:
                policy = ThresholdPolicy(calibration=models.calibration, settings=settings.recognize)
                vision = Vision(models.detector, models.embedder, executor)
                yield Gallery(
                    settings=settings,
                    metrics=metrics,
                    db=db,
                    models=models,
                    store=store,
                    matching=matching,
                    enroller=Enroller(
                        store=store,
                        detector=models.detector,
                        embedder=models.embedder,
                        matcher=matching.matcher,
                        calibration=models.calibration,
                        settings=settings,
                        await_visible=matching.await_visible,
                        metrics=metrics,
                    ),
                    policy=policy,
                    book=book,
                    vision=vision,
                    still=StillRecognizer(vision=vision, matcher=matching.matcher, policy=policy, book=book),
                    executor=executor,
                )
