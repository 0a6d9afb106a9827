"""Who takes part in an erasure. The one place: the API, commands and jobs erase alike."""

from datetime import timedelta

from api.jobs.forget import forget_subject_in_jobs
from core.settings import Settings
from enrollment.erasing import Eraser, Erasers
from sightings.forgetting import forget_person

ANSWERS = timedelta(days=1)  # how long answers of requests with an Idempotency-Key are kept (api/idempotency.py)


def forget_everywhere(settings: Settings) -> Erasers:
    """Return what erases a subject from everything that is remembered.

    ``sightings`` comes first: it takes the lock under which others store what still arrives, and remembers who was erased, so that it is
    stored without the name.
    """
    return Erasers(
        parts=(Eraser(what="sightings", forget=forget_person), Eraser(what="job_items", forget=forget_subject_in_jobs)),
        gone_within={
            "spool": timedelta(seconds=settings.ingest.spool_max_age_s),
            "requests": ANSWERS,
            "uploads": timedelta(days=settings.storage.upload_keep_days),
        },
    )
