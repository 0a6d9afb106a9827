"""Which cameras there are: the table ``camera``, its URLs encrypted at rest. The only SQL of this room."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from core.errors import ConflictError, NotFoundError, SightlineError, UsageError
from core.ports import Database
from core.sealing import SealedColumn
from core.secrets import SecretBox
from core.settings import IngestSettings
from ingest.capture import CameraConfig
from ingest.gate import GateSettings
from ingest.urls import kind_of, redact
from ingest.zones import Polygon, check_polygon

if TYPE_CHECKING:
    from ingest.camera import CameraStatus

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
MAX_URL_CHARS = 2000
SEALED = (SealedColumn(table="camera", key="name", column="url_encrypted", label=lambda row: _label(row["name"])),)

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

    def __post_init__(self) -> None:
        for what, value in (("name", self.name), ("region", self.region)):
            if not NAME.fullmatch(value):
                raise UsageError(f"camera {what} {value!r}: use 1 to 64 letters, digits, dots, underscores and dashes")
        if len(self.url) > MAX_URL_CHARS or any(ord(character) < 32 for character in self.url):
            raise UsageError(f"camera {self.name}: its URL is longer than {MAX_URL_CHARS} characters or holds control characters")
        kind_of(self.url)
        if self.max_fps is not None and not 0 < self.max_fps <= 120:
            raise UsageError(f"camera {self.name}: max_fps must be more than 0 and at most 120, got {self.max_fps:g}")

    def config(self, defaults: IngestSettings) -> CameraConfig:
        """Return what the worker needs, with the settings filled in."""
        gate = GateSettings(
            max_fps=self.max_fps or defaults.max_fps,
            hold_s=defaults.hold_s,
            heartbeat_s=defaults.heartbeat_s,
            track_fps=defaults.track_fps,
            zones=self.zones,
            masks=self.masks,
        )
        return CameraConfig(name=self.name, url=self.url, region=self.region, loop=self.loop, gate=gate, jpeg_quality=defaults.jpeg_quality)


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraRecord:
    """A camera as it is stored."""

    spec: CameraSpec
    enabled: bool
    url_redacted: str


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

    def __init__(self, db: Database, box: SecretBox) -> None:
        self._db, self._box = db, box
        self._unreadable: dict[str, str] = {}

    async def add(self, spec: CameraSpec) -> None:
        """Store a camera, enabled.

        Raises:
            ConflictError: the name is taken.
        """
        rows = await self._db.execute(
            "insert into camera (name, url_encrypted, url_redacted, region, gate) values ($1, $2, $3, $4, $5) on conflict do nothing",
            spec.name,
            self._box.seal(spec.url, label=_label(spec.name)),
            redact(spec.url),
            spec.region,
            _overrides(spec),
        )
        if not rows:
            raise ConflictError(f"camera {spec.name} exists; remove it first, or choose another name")

    async def get(self, name: str) -> CameraRecord:
        """Return a camera.

        Raises:
            NotFoundError: there is none of that name. SettingsError: its URL can't be decrypted.
        """
        rows = await self._db.fetch("select * from camera where name = $1", name)
        if not rows:
            raise _absent(name)
        return self._record(rows[0])

    async def list(self) -> "list[CameraRecord]":
        """Return all cameras by name."""
        return [self._record(row) for row in await self._db.fetch("select * from camera order by name")]

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

    async def replace(self, spec: CameraSpec) -> None:
        """Change a camera; running services follow within seconds, with a new session. Raises NotFoundError."""
        rows = await self._db.execute(
            "update camera set url_encrypted = $2, url_redacted = $3, region = $4, gate = $5, updated_at = now() where name = $1",
            spec.name,
            self._box.seal(spec.url, label=_label(spec.name)),
            redact(spec.url),
            spec.region,
            _overrides(spec),
        )
        if not rows:
            raise _absent(spec.name)

    async def set_enabled(self, name: str, enabled: bool) -> None:
        """Start or stop a camera; running services follow within seconds. Raises NotFoundError."""
        if not await self._db.execute("update camera set enabled = $2, updated_at = now() where name = $1", name, enabled):
            raise _absent(name)

    async def remove(self, name: str) -> None:
        """Forget a camera and its credentials; what it saw stays. Raises NotFoundError."""
        if not await self._db.execute("delete from camera where name = $1", name):
            raise _absent(name)

    def _record(self, row: dict[str, Any]) -> CameraRecord:
        gate = row["gate"]
        spec = CameraSpec(
            name=row["name"],
            url=self._box.open(row["url_encrypted"], label=_label(row["name"])),
            region=row["region"],
            loop=bool(gate.get("loop", False)),
            max_fps=gate.get("max_fps"),
            zones=tuple(check_polygon(polygon) for polygon in gate.get("zones", ())),
            masks=tuple(check_polygon(polygon) for polygon in gate.get("masks", ())),
        )
        return CameraRecord(spec=spec, enabled=row["enabled"], url_redacted=row["url_redacted"])


def _overrides(spec: CameraSpec) -> dict[str, Any]:
    chosen = {"loop": spec.loop, "max_fps": spec.max_fps, "zones": spec.zones, "masks": spec.masks}
    return {key: value for key, value in chosen.items() if value}


def _label(name: str) -> str:
    return f"camera {name}"


def _absent(name: str) -> NotFoundError:
    return NotFoundError(f"there is no camera {name}; 'sightline cameras list' shows them")
