"""Settings of one process, and where they come from. This is the only module that reads the environment."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as PydanticSettingsError

from core.errors import SettingsError
from core.settings.api import ApiSettings, OidcSettings, OutboundSettings
from core.settings.faces import (
    EnrollmentSettings,
    HistorySettings,
    IngestSettings,
    MatcherSettings,
    ModelSettings,
    RecognizeSettings,
    SightingSettings,
)
from core.settings.keeping import AuditSettings, EventSettings, JobSettings, RetentionSettings, StorageSettings
from core.settings.links import BrokerSettings, FrigateSettings, KafkaSettings, MetricsSettings, MqttSettings

SETTINGS_FILE = "sightline.toml"
SECRETS_DIR_VARIABLE = "SIGHTLINE_SECRETS_DIR"


class Settings(BaseSettings):
    """All settings of one process."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="SIGHTLINE_", env_nested_delimiter="__")

    data_dir: Path = Path("data")
    """Where everything that is remembered lives."""
    database_url: Annotated[str, Field(repr=False)] = "embedded:"
    """``embedded:`` = PostgreSQL inside data_dir; or ``postgresql://...``."""
    log_url: str = "memory:"
    """``memory:`` = inside this process; or ``kafka://host:port,host:port``."""
    broker_url: Annotated[str, Field(repr=False)] = "memory:"
    """``memory:`` = the matcher is in this process; or ``amqp://user:password@host:port/vhost``, ``amqps://...``."""
    kafka: KafkaSettings = KafkaSettings()
    broker: BrokerSettings = BrokerSettings()
    matcher: MatcherSettings = MatcherSettings()
    secret_key: SecretStr | None = None
    """Key of what is sealed in the database (faces, embeddings, camera URLs), base64 of 32 bytes: all machines need the same one.
    None = the file secret.key in data_dir, made when absent."""
    old_secret_keys: tuple[SecretStr, ...] = ()
    """Keys that may still open what they sealed, base64: see docs/operations.md for how a key is replaced."""
    metrics: MetricsSettings = MetricsSettings()
    models: ModelSettings = ModelSettings()
    ingest: IngestSettings = IngestSettings()
    recognize: RecognizeSettings = RecognizeSettings()
    enrollment: EnrollmentSettings = EnrollmentSettings()
    sightings: SightingSettings = SightingSettings()
    history: HistorySettings = HistorySettings()
    api: ApiSettings = ApiSettings()
    storage: StorageSettings = StorageSettings()
    jobs: JobSettings = JobSettings()
    oidc: OidcSettings = OidcSettings()
    outbound: OutboundSettings = OutboundSettings()
    events: EventSettings = EventSettings()
    mqtt: MqttSettings = MqttSettings()
    frigate: FrigateSettings = FrigateSettings()
    audit: AuditSettings = AuditSettings()
    retention: RetentionSettings = RetentionSettings()
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
        """Order: arguments, environment, secret files, then the file in the data directory."""
        data_dir = init_settings().get("data_dir") or env_settings().get("data_dir") or cls.model_fields["data_dir"].default
        file = TomlConfigSettingsSource(settings_cls, toml_file=Path(data_dir) / SETTINGS_FILE)
        secrets = NestedSecretsSettingsSource(
            file_secret_settings,
            secrets_dir=os.environ.get(SECRETS_DIR_VARIABLE),
            secrets_dir_missing="error",
            secrets_prefix="",
            secrets_nested_delimiter="__",
        )
        return init_settings, env_settings, secrets, file


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
    except PydanticSettingsError as err:
        raise SettingsError(f"{SECRETS_DIR_VARIABLE}: {err}") from err
    except ValueError as err:  # a TOML syntax error
        raise SettingsError(f"{SETTINGS_FILE}: {err}") from err


def child_environment(**variables: str) -> dict[str, str]:
    """Return the environment for a process of ours: this one's without its Sightline settings, with the given variables."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SIGHTLINE_")}
    return inherited | variables
