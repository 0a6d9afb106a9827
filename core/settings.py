"""Settings: one frozen object per process, from keyword arguments, environment (``SIGHTLINE_``), then ``DIR/sightline.toml``.

``SIGHTLINE_RECOGNIZE__TARGET_FPIR=0.001`` sets ``recognize.target_fpir``. All problems are reported at once.
This is the only module that reads the environment.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from core.errors import SettingsError

SETTINGS_FILE = "sightline.toml"
Rate = Annotated[float, Field(gt=0, lt=1)]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSettings(_Group):
    """Which models, and where they run."""

    set: str = "open"
    provider: Literal["auto", "tensorrt", "cuda", "cpu"] = "auto"
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    """Intra-op threads per session; 0 = from the machine."""
    detector_side_px: Annotated[int, Field(ge=160, le=4096)] = 640
    """The longest side a frame is shrunk to before detection."""


class IngestSettings(_Group):
    """Defaults of every camera; a camera may override."""

    max_fps: Annotated[float, Field(gt=0, le=120)] = 10.0
    """Rate cap of gated frames per camera."""
    hold_s: Annotated[float, Field(ge=0, le=60)] = 1.0
    """How long the gate stays open after the last motion."""
    heartbeat_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """A frame is looked at this often even when nothing moves."""
    track_fps: Annotated[float, Field(gt=0, le=30)] = 2.0
    """Rate at which a live track holds its camera's gate open."""
    jpeg_quality: Annotated[int, Field(ge=50, le=100)] = 90


class RecognizeSettings(_Group):
    """How faces become names."""

    target_fpir: Rate = 0.01
    """Chance that a stranger's track or photo is named at all, whatever the size of the gallery."""
    threshold: Annotated[float, Field(ge=-1, le=1)] | None = None
    """Fixed score instead of the calibrated one; for experts."""
    collection: str = "default"
    min_face_px: Annotated[int, Field(ge=16, le=512)] = 32
    """Faces lower than this are seen but never named."""
    reembed_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    """A live track is looked at again this often."""
    batch_frames: Annotated[int, Field(ge=1, le=64)] = 8


class SightingSettings(_Group):
    """What is remembered."""

    episode_gap_s: Annotated[float, Field(gt=0, le=86400)] = 30.0
    retention_days: Annotated[float, Field(gt=0, le=3650)] = 30.0
    """Sightings older than this are erased, thumbnails and embeddings with them."""


class ApiSettings(_Group):
    """The HTTP server. Binds to this machine only by default."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8400
    max_upload_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 16 << 20
    token: SecretStr | None = None
    """When set, every request but health and the pages' own files needs ``Authorization: Bearer``; at least 16 ASCII characters.
    Required when host is not loopback."""


class Settings(BaseSettings):
    """All settings of one process."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="SIGHTLINE_", env_nested_delimiter="__")

    data_dir: Path = Path("data")
    """Where everything that is remembered lives."""
    database_url: str = "embedded:"
    """``embedded:`` = PostgreSQL inside data_dir; or ``postgresql://...``."""
    log_url: str = "memory:"
    models: ModelSettings = ModelSettings()
    ingest: IngestSettings = IngestSettings()
    recognize: RecognizeSettings = RecognizeSettings()
    sightings: SightingSettings = SightingSettings()
    api: ApiSettings = ApiSettings()
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order: arguments, environment, then the file in the data directory."""
        data_dir = init_settings().get("data_dir") or env_settings().get("data_dir") or cls.model_fields["data_dir"].default
        file = TomlConfigSettingsSource(settings_cls, toml_file=Path(data_dir) / SETTINGS_FILE)
        return init_settings, env_settings, file


def load_settings(**overrides: Any) -> Settings:
    """Read the settings.

    Raises:
        SettingsError: with every problem, one per line.
    """
    try:
        return Settings(**{key: value for key, value in overrides.items() if value is not None})
    except ValidationError as err:
        lines = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in err.errors()]
        raise SettingsError("settings: " + "; ".join(lines)) from err
    except ValueError as err:  # a TOML syntax error
        raise SettingsError(f"{SETTINGS_FILE}: {err}") from err
