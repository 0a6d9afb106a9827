"""Composition of jobs: what runs them in a process that has the models."""

from api.jobs.imports import ImportWork
from api.jobs.recognition import RecognizeWork
from api.jobs.runner import JobRunner
from cli.compose import Gallery
from core.adapters.object_store import open_object_store
from enrollment.bulk import BulkEnroller
from recognize.recognizer import Recognizer
from recognize.threshold import ThresholdPolicy


def job_runner(gallery: Gallery) -> JobRunner:
    """Return what runs jobs with the models and the matcher of this process; its ``run`` is a service of it."""
    settings = gallery.settings
    tries = settings.jobs.max_attempts
    bulk = BulkEnroller(matcher=gallery.matcher, calibration=gallery.calibration, model=gallery.embedder.model, metrics=gallery.metrics)
    return JobRunner(
        db=gallery.db,
        objects=open_object_store(settings.storage, data_dir=settings.data_dir, vault=gallery.db.vault),
        works={
            "import": ImportWork(
                db=gallery.db,
                enroll_all=gallery.enroller.enroll_all,
                bulk=bulk,
                dimensions=gallery.embedder.dimensions,
                await_visible=gallery.matching.await_visible,
                max_attempts=tries,
            ),
            "recognize": RecognizeWork(still=gallery.still, recognizer=lambda name: _recognizer(gallery, name), max_attempts=tries),
        },
        settings=settings,
        metrics=gallery.metrics,
    )


def _recognizer(gallery: Gallery, collection: str) -> Recognizer:
    """Return a recognizer with no tracks yet, for a collection."""
    settings = gallery.policy.settings.model_copy(update={"collection": collection})
    policy = ThresholdPolicy(calibration=gallery.calibration, settings=settings)
    return Recognizer(vision=gallery.vision, matcher=gallery.matcher, policy=policy, book=gallery.book, metrics=gallery.metrics)
