"""What a threshold means for strangers, in figures and in words."""

from collections.abc import Sequence

from api.services import ApiServices
from api.thresholds.models import Kind, Meaning
from embed.calibration import Calibration
from recognize.rules.store import Threshold
from recognize.threshold import TRACK_AGREEMENT
from sightings.record import parse_id

AGREEMENT_OF_TRACKS = TRACK_AGREEMENT
"""Tracks of varied shots are explained: they ask for most."""
CARELESS_FPIR = 0.05  # five times the default; one stranger in twenty is an alarm an hour at any entrance


def meaning(calibration: Calibration, score: float, kind: Kind, references: int) -> Meaning:
    """Return what a score means for a probe of a kind, compared with so many references."""
    return Meaning(
        kind=kind,
        score=score,
        far=calibration.far(score, kind=kind),
        fpir=calibration.fpir(score, kind=kind, gallery_size=references),
    )


def warning_of(means: Sequence[Meaning]) -> str | None:
    """Return in words what a threshold does to strangers, or to everybody, where nobody can want that."""
    worst = max(means, key=lambda one: one.fpir)
    of = f"for a {'single face' if worst.kind == 'single' else 'track'} in a gallery of this size"
    if worst.fpir > 0.5:
        return f"most strangers would be named: FPIR {worst.fpir:.0%} {of}"
    if worst.fpir >= CARELESS_FPIR:
        return f"about one stranger in {round(1 / worst.fpir)} would be named: FPIR {worst.fpir:.1%} {of}"
    if min(one.score for one in means) >= 1:
        return "hardly anybody would be named: no two pictures of a face score 1"
    return None


async def gallery_of(behind: ApiServices, threshold: Threshold) -> tuple[str, int]:
    """Return the collection that a threshold is of, and its size; the settings' one where it is of none or of several."""
    collection = behind.settings.recognize.collection
    if threshold.level == "collection":
        collection = threshold.key
    elif threshold.level == "subject" and parse_id(threshold.key):
        collection = (await behind.gallery.subject(threshold.key)).collection
    elif threshold.level == "watchlist":
        rows = await behind.db.fetch("select collection from watchlist where name = $1", threshold.key)
        collection = rows[0]["collection"] if rows else collection
    return collection, (await behind.gallery.counts(collection)).references
