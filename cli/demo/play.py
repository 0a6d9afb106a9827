"""One showing: footage, people and cameras are put in place, then the platform runs as ``sightline run`` would run it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from api.sightings.models import SightingView
from cli.demo.footage import ensure_footage
from cli.demo.script import CAMERAS, KNOWN, CameraScript
from cli.demo.summary import Account, Showing, Summary, summarize
from cli.demo.view import CameraState, Seen, View
from cli.first_key import tell_first_key
from cli.platform import Platform, open_platform
from cli.watch import follow_sightings
from core.errors import NotFoundError, SightlineError
from core.schema import Sighting
from core.settings import Settings
from enrollment.record import Photo, SubjectDetails
from enrollment.service import Enroller
from ingest.cameras import CameraSpec
from sightings.record import Filter

FOOTAGE = "footage"  # folder of the clips, in the demo's data folder
POLL_S = 0.25  # how soon the table shows a change
STATES_S = 1.0  # how often the footer is renewed
SETTLE_S = 15.0  # longest wait after the last frame until all are finished
PAGE = 500
CONSENT = {"purpose": "demonstration", "basis": "official photographs in the public domain"}


@dataclass(slots=True)
class _Watch:
    """What was noticed while the platform ran."""

    started_s: dict[str, float] = field(default_factory=dict)
    ended_s: dict[str, float] = field(default_factory=dict)
    first_decision_ms: dict[str, float] = field(default_factory=dict)
    accounts: tuple[Account, ...] = ()

    def note(self, states: Sequence[tuple[str, str, float]]) -> None:
        """Note when each camera showed its first frame, and when it ended."""
        for camera, state, since_s in states:
            if state == "live":
                self.started_s.setdefault(camera, since_s)
            elif state == "ended":
                self.ended_s.setdefault(camera, since_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Programme:
    """What is to be shown."""

    scripts: Sequence[CameraScript]
    clips: Mapping[str, Path]
    """The H.264 file of each camera."""
    duration_s: float


def prepare(settings: Settings, view: View, *, duration_s: float) -> Programme:
    """Paint the footage that is not there yet. Blocks for some seconds on the first start; Ctrl-C ends it at once."""
    scripts = [script.until(duration_s) for script in CAMERAS]
    clips = ensure_footage(settings.data_dir / FOOTAGE, scripts, duration_s=duration_s, report=_progress(view))
    return Programme(scripts=scripts, clips=clips, duration_s=duration_s)


async def show(settings: Settings, view: View, programme: Programme, *, once: bool) -> Summary | None:
    """Run the demo.

    Args:
        settings: with a data folder of the demo's own, and a port that is free.
        view: where it is shown.
        programme: see prepare.
        once: play the footage once and return the summary; otherwise play on until a signal comes, and return None.

    Raises:
        SightlineError: what is missing, in one line.
    """
    scripts = programme.scripts
    view.preparing("starting the database and loading the models")
    async with open_platform(settings) as platform:
        await enrol_known(platform.gallery.enroller)
        await _place_cameras(platform, programme, loop=not once)
        await tell_first_key(platform.gallery.db, settings, view.admin_key)
        watch, stop = _Watch(), asyncio.Event()
        view.ready(
            url=f"http://{settings.api.host}:{settings.api.port}",
            people=[enrolment.name for enrolment in KNOWN],
            cameras=[script.camera for script in scripts],
            note=f"a stranger is named at most once in {1 / settings.recognize.target_fpir:.0f} tracks (recognize.target_fpir)",
        )
        await _run(platform, view, watch, stop, once=once)
        if not once or len(watch.ended_s) < len(scripts):
            return None
        return await _summary(platform, programme, watch)


async def _run(platform: Platform, view: View, watch: _Watch, stop: asyncio.Event, *, once: bool) -> None:
    """Run the platform, and beside it what watches it; the watchers end with it."""
    watchers = [asyncio.create_task(_follow_events(platform, view, watch)), asyncio.create_task(_follow_cameras(platform, view, watch))]
    if once:
        watchers.append(asyncio.create_task(_stop_when_over(platform, stop)))
    try:
        await platform.run(stop)
    finally:
        for watcher in watchers:
            watcher.cancel()
        await asyncio.wait(watchers)
    for watcher in watchers:
        if not watcher.cancelled() and (error := watcher.exception()) is not None:
            raise error
    _note_cameras(platform, view, watch)


async def _follow_events(platform: Platform, view: View, watch: _Watch) -> None:
    """Show each sighting when the record tells of it."""

    def show_one(sighting: SightingView) -> None:
        if sighting.outcome != "unclear":
            watch.first_decision_ms.setdefault(sighting.sighting_id, sighting.latency_ms)
        view.seen(_seen(sighting))

    await follow_sightings(platform.parts.events, show_one)


async def _follow_cameras(platform: Platform, view: View, watch: _Watch) -> None:
    while True:
        _note_cameras(platform, view, watch)
        await asyncio.sleep(STATES_S)


async def _stop_when_over(platform: Platform, stop: asyncio.Event) -> None:
    """Stop once every clip is over and every published frame is finished."""
    await platform.ingest.ended()
    for _ in range(round(SETTLE_S / POLL_S)):
        if all(account.balanced for account in _accounts(platform)):
            break
        await asyncio.sleep(POLL_S)
    stop.set()


def _note_cameras(platform: Platform, view: View, watch: _Watch) -> None:
    states = platform.ingest.status()
    if not states:
        return
    watch.note([(status.camera, status.state, status.since_s) for status in states])
    watch.accounts = _accounts(platform)
    by_camera = {account.camera: account for account in watch.accounts}
    view.cameras([CameraState(state=status.state, account=by_camera[status.camera]) for status in states])


def _accounts(platform: Platform) -> tuple[Account, ...]:
    registry = platform.gallery.metrics.registry

    def count(name: str, camera: str, region: str) -> int:
        return int(registry.get_sample_value(f"sightline_{name}_total", {"camera": camera, "region": region}) or 0)

    return tuple(
        Account(
            camera=status.camera,
            decoded=status.decoded,
            published=count("ingest_frames_published", status.camera, status.region),
            finished=count("recognize_frames_finished", status.camera, status.region),
            dead_lettered=count("recognize_frames_dead_lettered", status.camera, status.region),
            dropped=count("ingest_frames_dropped", status.camera, status.region),
        )
        for status in platform.ingest.status()
    )


async def enrol_known(enroller: Enroller) -> None:
    """Enrol the known people of the script from the shipped photos. Raises SightlineError when one is rejected."""
    folder = resources.files("cli").joinpath("assets/people/enrol")
    details = SubjectDetails(consent=CONSENT | {"given_at": datetime.now(UTC).isoformat()})
    for enrolment in KNOWN:
        file = folder.joinpath(f"{enrolment.photo}.jpg")
        outcome = await enroller.enroll(Photo(file=file.name, subject=enrolment.name, read=file.read_bytes, details=details))
        if outcome.status == "rejected":
            raise SightlineError(f"demo: {enrolment.name} was not enrolled: {outcome.reason} {outcome.detail}".rstrip())


async def _place_cameras(platform: Platform, programme: Programme, *, loop: bool) -> None:
    for camera, clip in programme.clips.items():
        with suppress(NotFoundError):  # of an earlier showing, with other footage perhaps
            await platform.cameras.remove(camera)
        await platform.cameras.add(CameraSpec(name=camera, url=str(clip.resolve()), loop=loop))


async def _summary(platform: Platform, programme: Programme, watch: _Watch) -> Summary:
    sightings: list[Sighting] = []
    cursor: str | None = None
    wanted = Filter(since_s=min(watch.started_s.values()) - 1.0)
    while True:
        page, cursor = await platform.parts.sightings.query(wanted, limit=PAGE, cursor=cursor)
        sightings += [(await platform.parts.sightings.get(stored.sighting.sighting_id)).sighting for stored in page]
        if cursor is None:
            break
    late_s = max(watch.ended_s[camera] - started_s - programme.duration_s for camera, started_s in watch.started_s.items())
    return summarize(
        programme.scripts,
        sightings,
        Showing(
            started_s=watch.started_s,
            late_s=max(0.0, late_s),
            accounts=watch.accounts,
            latencies_ms=tuple(watch.first_decision_ms.values()),
        ),
    )


def _seen(sighting: SightingView) -> Seen:
    same = ("sighting_id", "camera", "outcome", "reason", "score", "threshold", "latency_ms", "faces", "closed")
    return Seen(at_s=sighting.first_at.timestamp(), name=sighting.subject, **{name: getattr(sighting, name) for name in same})


def _progress(view: View) -> Callable[[float], None]:
    """Return a reporter for worker threads that tells the view about each quarter."""
    told = [-1]

    def report(share: float) -> None:
        if int(share * 4) > told[0]:
            told[0] = int(share * 4)
            view.preparing(f"painting the footage (only on the first start): {told[0] * 25} %")

    return report
