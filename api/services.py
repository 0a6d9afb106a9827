"""What the API needs of the platform, handed in by whoever composes the process."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from api.access.authenticator import Authenticator
from api.history.follow import History
from api.live.hub import EventHub
from api.live.views import ListsCameras
from api.recognize.cache import LookCache
from api.system.models import ReadyCheck
from api.work import Turns
from core.errors import UnavailableError
from core.metrics import Metrics
from core.ports import Database, Matcher, ObjectStore
from core.settings import Settings
from enrollment.record import NewReference, Outcome, Photo, SubjectDetails
from enrollment.service import EnrollOptions
from enrollment.store import GalleryStore
from recognize.rules.rules import Rulebook
from recognize.still import StillRecognizer
from recognize.threshold import ThresholdPolicy
from sightings.store import SightingStore


class Enrolls(Protocol):
    """Puts photos into the gallery (see enrollment.service.Enroller)."""

    async def enroll_all(self, photos: Iterable[Photo], report: Callable[[Outcome], None], options: EnrollOptions) -> None:
        """Enrol or reject photos in their order; what is reported as enrolled is visible to the matcher (see EnrollOptions.wait)."""
        ...

    async def enroll_new(self, photos: Sequence[Photo], details: SubjectDetails, options: EnrollOptions) -> list[Outcome]:
        """Make a subject of photos, all of them or nothing."""
        ...

    async def enroll_vector(
        self,
        subject: str,
        new: NewReference,
        options: EnrollOptions,
        *,
        subject_id: str | None = None,
        details: SubjectDetails | None = None,
    ) -> Outcome:
        """Store a face that was embedded before."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServices:
    """The parts behind the API. All of them live on the server's event loop."""

    settings: Settings
    metrics: Metrics
    db: Database
    """For the stores of the areas: a store is made where it is used, ``WatchlistStore(services(request).db)``. ``db.vault`` seals."""
    access: Authenticator
    """Who asks; its ``run`` is a service of the process."""
    events: EventHub
    sightings: SightingStore
    gallery: GalleryStore
    enroller: Enrolls
    still: StillRecognizer
    history: History
    """Searches the past; who composes the process runs it."""
    looks: LookCache
    """What was found on photos lately; who composes the process lets it follow the gallery."""
    await_visible: Callable[[int], Awaitable[None]]
    """Returns when the matcher has the given generation of the gallery; UnavailableError when it does not come to it."""
    policy: ThresholdPolicy
    """What targets (score, FAR, FPIR) mean as scores."""
    book: Rulebook
    """The rules in force: ``book.now.effective(policy, Scope(...), references=...)`` is the threshold of a request, ``book.now.weigh(...)``
    what the rules make of a probe's candidates."""
    matcher: Matcher
    objects: ObjectStore
    """Uploads, and what jobs read and leave."""
    readiness: Callable[[], Awaitable[Sequence[ReadyCheck]]]
    """What must work, each with its reason where it does not: database, models, matcher."""
    cameras: ListsCameras
    """How the cameras are."""


VISIBLE_S = 5.0  # then 202: the change is stored, and will be visible when the matcher is back
SERVICES = web.AppKey("services", ApiServices)
SEARCHING = web.AppKey("searching", Turns)
ENROLLING = web.AppKey("enrolling", Turns)
STRANGERS = web.AppKey("strangers", Turns)


def services(request: web.Request) -> ApiServices:
    """Return the services behind a request."""
    return request.app[SERVICES]


async def visible(request: web.Request, generation: int | None) -> bool:
    """Wait a moment until the matcher has a generation of the gallery, and tell whether it has; None = nothing has changed for it."""
    if generation is None:
        return True
    try:
        async with asyncio.timeout(VISIBLE_S):
            await services(request).await_visible(generation)
    except (TimeoutError, UnavailableError):
        return False
    return True
