"""Which cameras there are: the table ``camera``, its URLs encrypted at rest. The only SQL of this room."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from core.errors import ConflictError, NotFoundError, SightlineError, StaleError, UsageError
from core.events import tell
from core.outbound import PRIVATE_NETWORKS
from core.ports import Database
from core.sealing import SealedColumn
from core.secrets import SecretBox
from core.settings import IngestSettings
from ingest.capture import CameraConfig
from ingest.gate import GateSettings
from ingest.opening import SourceOptions
from ingest.urls import kind_of, redact
from ingest.zones import Polygon, check_polygon

if TYPE_CHECKING:
    from ingest.camera import CameraStatus

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
MAX_URL_CHARS = 2000
SEALED = (SealedColumn(table="camera", key="name", column="url_encrypted", label=lambda row: _label(row["name"])),)

GATE = ("max_fps", "hold_s", "heartbeat_s", "track_fps", "jpeg_quality")
"""What a camera may have otherwise than the settings say."""

_ADD = """
insert into camera (name, url_encrypted, url_redacted, region, gate, over_api, groups, enabled) values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict do nothing
"""
_CHANGE = """
update camera set url_encrypted = $2, url_redacted = $3, region = $4, gate = $5, over_api = $6, groups = $7, enabled = $8,
    updated_at = now(), version = version + 1
where name = $1
"""

log = structlog.get_logger("ingest")


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraSpec:
    """A camera as an operator describes it; None means the default of the settings."""

    name: str
    """Letters, digits, dot, underscore and dash, at most 64."""
    url: str = field(repr=False)
    """A stream, device, file or folder; with credentials."""
    region: str = "default"
    loop: bool = False
    max_fps: float | None = None
    zones: tuple[Polygon, ...] = ()
    masks: tuple[Polygon, ...] = ()
    hold_s: float | None = None
    heartbeat_s: float | None = None
    track_fps: float | None = None
    jpeg_quality: int | None = None
    allow: tuple[str, ...] | None = None
    """It came over the API: where it may be (``outbound.camera_allow``); None = it was added at the machine, and may be anywhere."""

    def __post_init__(self) -> None:
        for what, value in (("name", self.name), ("region", self.region)):
            if not NAME.fullmatch(value):
                raise UsageError(f"camera {what} {value!r}: use 1 to 64 letters, digits, dots, underscores and dashes")
        if len(self.url) > MAX_URL_CHARS or any(ord(character) < 32 for character in self.url):
            raise UsageError(f"camera {self.name}: its URL is longer than {MAX_URL_CHARS} characters or holds control characters")
        kind_of(self.url)
        if self.max_fps is not None and not 0 < self.max_fps <= 120:
            raise UsageError(f"camera {self.name}: max_fps must be more than 0 and at most 120, got {self.max_fps:g}")
        limits: tuple[tuple[str, float | None, float, float], ...] = (
            ("hold_s", self.hold_s, 0, 60),
            ("heartbeat_s", self.heartbeat_s, 0.1, 3600),
            ("track_fps", self.track_fps, 0.1, 30),
            ("jpeg_quality", self.jpeg_quality, 50, 100),
        )
        for what, number, least, most in limits:
            if number is not None and not least <= number <= most:
                raise UsageError(f"camera {self.name}: {what} must be from {least:g} to {most:g}, got {number:g}")

    def config(self, defaults: IngestSettings) -> CameraConfig:
        """Return what the worker needs, with the settings filled in."""
        gate = GateSettings(
            max_fps=self.max_fps or defaults.max_fps,
            hold_s=defaults.hold_s if self.hold_s is None else self.hold_s,
            heartbeat_s=self.heartbeat_s or defaults.heartbeat_s,
            track_fps=self.track_fps or defaults.track_fps,
            zones=self.zones,
            masks=self.masks,
        )
        return CameraConfig(
            name=self.name,
            url=self.url,
            region=self.region,
            loop=self.loop,
            gate=gate,
            jpeg_quality=self.jpeg_quality or defaults.jpeg_quality,
            source=SourceOptions(allow=self.allow),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraRecord:
    """A camera as it is stored."""

    spec: CameraSpec
    enabled: bool
    url_redacted: str
    groups: tuple[str, ...] = ()
    """Whom it concerns: grants, watchlists and thresholds name groups."""
    version: int = 1
    """Grows with each change."""


class Cameras(Protocol):
    """Where the ingest service learns which cameras to run."""

    async def enabled(self) -> Sequence[CameraSpec]:
        """Return the cameras that are to run. Raises UnavailableError, SettingsError."""
        ...

    async def settled(self, running: "Sequence[CameraStatus]") -> None:
        """Hear what runs now: called after each ``enabled``, when all others have stopped. Raises UnavailableError."""
        ...


class FixedCameras:
    """Cameras that are not stored: the demo's and the benchmarks'. Thread rule: one event loop."""

    def __init__(self, specs: Sequence[CameraSpec]) -> None:
        self.specs = tuple(specs)

    async def enabled(self) -> Sequence[CameraSpec]:
        """Return them all."""
        return self.specs

    async def settled(self, running: "Sequence[CameraStatus]") -> None:
        """Nobody else waits for what was stopped."""


async def camera_names(db: Database, groups: frozenset[str]) -> frozenset[str]:
    """Return the names of the cameras that belong to any of some groups."""
    rows = await db.fetch("select name from camera where groups && $1::text[]", sorted(groups))
    return frozenset(row["name"] for row in rows)


class CameraStore:
    """The table ``camera``. Thread rule: event loop."""

    def __init__(self, db: Database, box: SecretBox, *, allow: tuple[str, ...] = PRIVATE_NETWORKS) -> None:
        """Take what the store needs.

        Args:
            db: the database.
            box: seals URLs.
            allow: where cameras that came over the API may be, ``settings.outbound.camera_allow``.
        """
        self._db, self._box, self._allow = db, box, allow
        self._unreadable: dict[str, str] = {}

    async def add(self, spec: CameraSpec, *, groups: Iterable[str] = (), enabled: bool = True) -> CameraRecord:
        """Store a camera.

        Raises:
            ConflictError: the name is taken. UsageError: a group that can't be.
        """
        async with self._db.transaction() as tx:
            if not await tx.execute(_ADD, *self._row(spec), _checked_groups(groups), enabled):
                raise ConflictError(f"camera {spec.name} exists; remove it first, or choose another name")
            record = await self._in(tx).get(spec.name)
            await _tell(tx, record)
        return record

    async def get(self, name: str, *, groups: frozenset[str] | None = None) -> CameraRecord:
        """Return a camera; with ``groups`` only one of any of them.

        Raises:
            NotFoundError: there is none of that name. SettingsError: its URL can't be decrypted.
        """
        rows = [] if "\x00" in name else await self._db.fetch("select * from camera where name = $1", name)
        if not rows or (groups is not None and groups.isdisjoint(rows[0]["groups"])):
            raise _absent(name)
        return self._record(rows[0])

    async def list(self) -> "list[CameraRecord]":
        """Return all cameras by name."""
        return [self._record(row) for row in await self._db.fetch("select * from camera order by name")]

    async def names(self) -> Sequence[str]:
        """Return the names of all cameras."""
        return [row["name"] for row in await self._db.fetch("select name from camera order by name")]

    async def enabled(self) -> Sequence[CameraSpec]:
        """Return the cameras that are to run."""
        return [record.spec for record in await self.list() if record.enabled]

    async def settled(self, running: "Sequence[CameraStatus]") -> None:
        """Nobody else waits for what was stopped."""

    async def specs(self, names: Iterable[str]) -> Sequence[CameraSpec]:
        """Return the cameras of these names, enabled or not; one that can't be read (another key) is left out and logged."""
        specs = []
        for row in await self._db.fetch("select * from camera where name = any($1) order by name", list(names)):
            try:
                specs.append(self._record(row).spec)
            except SightlineError as err:
                if self._unreadable.get(row["name"]) != str(err):
                    log.warning("a camera can't be run", camera=row["name"], error=str(err))
                self._unreadable[row["name"]] = str(err)
        return specs

    async def change(self, name: str, change: Callable[[CameraRecord], CameraRecord], *, version: int | None = None) -> CameraRecord:
        """Change a camera; running services follow within seconds, with a new session if what they run has changed.

        Args:
            name: of the camera.
            change: returns what it shall be.
            version: that is changed; None = whichever is there.

        Raises:
            NotFoundError: there is none. StaleError: it was changed meanwhile. UsageError: what it shall be can't be.
        """
        async with self._db.transaction() as tx:
            await tx.fetch("select from camera where name = $1 for update", name)
            before = await self._in(tx).get(name)
            _check_version(before, version)
            after = change(before)
            if after == before:
                return before
            await tx.execute(_CHANGE, *self._row(after.spec), _checked_groups(after.groups), after.enabled)
            record = await self._in(tx).get(name)
            await _tell(tx, record)
        return record

    async def replace(self, spec: CameraSpec) -> None:
        """Change what a camera is; running services follow within seconds, with a new session. Raises NotFoundError."""
        await self.change(spec.name, lambda before: replace(before, spec=spec))

    async def set_enabled(self, name: str, enabled: bool) -> None:
        """Start or stop a camera; running services follow within seconds. Raises NotFoundError."""
        await self.change(name, lambda before: replace(before, enabled=enabled))

    async def remove(self, name: str, *, version: int | None = None) -> None:
        """Forget a camera and its credentials; what it saw stays. Raises NotFoundError, StaleError."""
        async with self._db.transaction() as tx:
            rows = await tx.fetch("select version from camera where name = $1 for update", name)
            if not rows:
                raise _absent(name)
            if version is not None and rows[0]["version"] != version:
                raise _stale(name)
            await tx.execute("delete from camera where name = $1", name)
            await tell(tx, "camera", [(name, rows[0]["version"] + 1)], camera=name)

    def _in(self, tx: Database) -> "CameraStore":
        return CameraStore(tx, self._box, allow=self._allow)

    def _row(self, spec: CameraSpec) -> tuple[Any, ...]:
        sealed = self._box.seal(spec.url, label=_label(spec.name))
        return spec.name, sealed, redact(spec.url), spec.region, _overrides(spec), spec.allow is not None

    def _record(self, row: dict[str, Any]) -> CameraRecord:
        gate = row["gate"]
        spec = CameraSpec(
            name=row["name"],
            url=self._box.open(row["url_encrypted"], label=_label(row["name"])),
            region=row["region"],
            loop=bool(gate.get("loop", False)),
            zones=tuple(check_polygon(polygon) for polygon in gate.get("zones", ())),
            masks=tuple(check_polygon(polygon) for polygon in gate.get("masks", ())),
            allow=self._allow if row["over_api"] else None,
            **{name: gate.get(name) for name in GATE},
        )
        known = {"url_redacted": row["url_redacted"], "groups": tuple(row["groups"]), "version": row["version"]}
        return CameraRecord(spec=spec, enabled=row["enabled"], **known)


async def _tell(tx: Database, record: CameraRecord) -> None:
    await tell(tx, "camera", [(record.spec.name, record.version)], camera=record.spec.name)


def _checked_groups(groups: Iterable[str]) -> "list[str]":
    for group in groups:
        if not NAME.fullmatch(group):
            raise UsageError(f"camera group {group[:80]!r}: use 1 to 64 letters, digits, dots, underscores and dashes")
    return sorted(set(groups))


def _check_version(found: CameraRecord, version: int | None) -> None:
    if version is not None and version != found.version:
        raise _stale(found.spec.name)


def _stale(name: str) -> StaleError:
    return StaleError(f"camera {name}: was changed meanwhile; read it again")


def _overrides(spec: CameraSpec) -> dict[str, Any]:
    chosen = {"loop": spec.loop or None, "zones": spec.zones or None, "masks": spec.masks or None}
    return {key: value for key, value in (chosen | {name: getattr(spec, name) for name in GATE}).items() if value is not None}


def _label(name: str) -> str:
    return f"camera {name}"


def _absent(name: str) -> NotFoundError:
    return NotFoundError(f"there is no camera {name}; 'sightline cameras list' shows them")
