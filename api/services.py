"""What the API needs of the platform, handed in by whoever composes the process."""

from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from api.events import EventHub
from api.models import CameraView, ReadyCheck
from api.photo import PhotoFaces
from api.work import BoundedWork
from core.metrics import Metrics
from core.ports import Matcher
from core.settings import Settings
from enrollment.record import Outcome, Photo
from enrollment.store import GalleryStore
from recognize.threshold import ThresholdPolicy
from sightings.store import SightingStore


class ReadsPhotos(Protocol):
    """Finds and embeds the faces of a photo (see api.photo.PhotoReader)."""

    def read(self, data: bytes, *, name: str) -> PhotoFaces:
        """Run in an executor's thread. Raises UnreadableMediaError, ModelError."""
        ...


class Enrolls(Protocol):
    """Puts a photo into the gallery (see enrollment.service.Enroller)."""

    async def enroll(self, photo: Photo, *, collection: str) -> Outcome:
        """Enrol or reject one photo; a change is visible to the matchers when it returns."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServices:
    """The parts behind the API. All of them live on the server's event loop."""

    settings: Settings
    metrics: Metrics
    events: EventHub
    sightings: SightingStore
    gallery: GalleryStore
    enroller: Enrolls
    matcher: Matcher
    policy: ThresholdPolicy
    photos: ReadsPhotos
    executor: Executor
    """Runs ``photos``; one or two threads."""
    readiness: Callable[[], Awaitable[Sequence[ReadyCheck]]]
    """What must work, each with its reason where it does not: database, models, matcher."""
    cameras: Callable[[], Awaitable[Sequence[CameraView]]]
    """How the cameras are."""


SERVICES = web.AppKey("services", ApiServices)
WORK = web.AppKey("work", BoundedWork)


def services(request: web.Request) -> ApiServices:
    """Return the services behind a request."""
    return request.app[SERVICES]


def work(request: web.Request) -> BoundedWork:
    """Return the bounded executor behind a request."""
    return request.app[WORK]
