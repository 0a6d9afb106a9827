"""Settings: one frozen object per process, from keyword arguments, environment (``SIGHTLINE_``), secret files, then ``DIR/sightline.toml``.

``SIGHTLINE_RECOGNIZE__TARGET_FPIR=0.001`` sets ``recognize.target_fpir``; with ``SIGHTLINE_SECRETS_DIR=/run/secrets`` the file
``/run/secrets/kafka__password`` sets ``kafka.password``. All problems are reported at once. This is the only module that reads the
environment.
"""

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as PydanticSettingsError

from core.errors import SettingsError
from core.outbound import HOST_NAME, LOOPBACK_NETWORKS, PRIVATE_NETWORKS

SETTINGS_FILE = "sightline.toml"
SECRETS_DIR_VARIABLE = "SIGHTLINE_SECRETS_DIR"
Rate = Annotated[float, Field(gt=0, lt=1)]
HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,253}$")]
Origin = Annotated[str, Field(pattern=r"^https?://[a-z0-9.-]{1,253}(:[0-9]{1,5})?$")]
ProviderUrl = Annotated[str, Field(pattern=r"^(https://|http://(localhost|127\.0\.0\.1)[:/])")]
"""HTTPS, or this machine for tests: whoever can change the keys on their way can make any token."""


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
    spool_bytes: Annotated[int, Field(ge=0, le=1 << 40)] = 1 << 30
    """Gated frames kept on disk (data_dir/spool) while Kafka is away; what does not fit is dropped and counted."""
    spool_max_age_s: Annotated[float, Field(ge=10, le=604800)] = 3600.0
    """Older frames are dropped from the spool and counted: they are pictures of people, and what they show is no news any more. Erasures
    name this time in their receipts, so give it to all processes alike."""
    lease_s: Annotated[float, Field(ge=2, le=60)] = 6.0
    """A fleet's ingester that is silent for so long loses its cameras to the others; the same for all of them."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$")] = ""
    """Of this ingester in its fleet; one that starts again under its name has its cameras at once. Empty = host and process id."""


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
    batch_frames: Annotated[int, Field(ge=0, le=64)] = 0
    """Most frames that are looked at together; 0 = from where the models run: 1 on a CPU, 8 on a GPU."""


class SightingSettings(_Group):
    """What is remembered."""

    episode_gap_s: Annotated[float, Field(gt=0, le=86400)] = 30.0
    retention_days: Annotated[float, Field(gt=0, le=3650)] = 30.0
    """Sightings older than this are erased, thumbnails and embeddings with them."""


class HistorySettings(_Group):
    """Search of the past, and unknown persons."""

    max_sightings: Annotated[int, Field(ge=1000, le=100_000_000)] = 2_000_000
    """Sightings that each API process keeps in memory to search them by face, newest first: 0.6 KB each with 512 dimensions."""
    persons: bool = True
    """Strangers who come back are counted as one unknown person."""
    person_far: Rate = 1e-3
    """Chance that a stranger's track joins any of the unknown persons wrongly, whatever their number."""


class ApiSettings(_Group):
    """The HTTP server. Binds to this machine only by default; nothing but health and the pages' own files is open without a key."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8400
    max_upload_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 16 << 20
    cache_bytes: Annotated[int, Field(ge=0, le=1 << 36)] = 64 << 20
    """Memory for what was found on photos that come again to ``POST /v1/recognize``: about 12 KB a photo with one face; 0 = none."""
    token: SecretStr | None = None
    """An administrator's bearer token that is not in the database; at least 16 ASCII characters. None = the first start makes a key."""
    names: tuple[HostName, ...] = ()
    """Host names under which this server is asked, beside its own address: those of a proxy on this machine."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed: ``10.0.0.5``, ``10.1.0.0/16``."""
    cors_origins: tuple[Origin, ...] = ()
    """Web sites whose scripts may use the API with a key (never with a session): ``https://app.example``."""
    session_s: Annotated[float, Field(ge=60, le=30 * 86400)] = 12 * 3600.0
    """A session of the console ends after this, however it is used."""
    session_idle_s: Annotated[float, Field(ge=120, le=30 * 86400)] = 3600.0
    """A session that is not used for so long ends."""
    rate_per_minute: Annotated[int, Field(ge=0, le=10_000_000)] = 60_000
    """Requests of a key, user or identity that has no limit of its own; 0 = any number. Each process counts for itself."""
    anonymous_per_minute: Annotated[int, Field(ge=1, le=10_000_000)] = 600
    """Requests of an address that does not prove who it is, health checks aside."""
    max_connections: Annotated[int, Field(ge=10, le=100_000)] = 2000
    """Open at once; further ones are closed at once."""
    max_connections_per_address: Annotated[int, Field(ge=10, le=100_000)] = 200
    """The same of one address, this machine and trusted proxies aside."""
    headers_s: Annotated[float, Field(gt=0, le=300)] = 10.0
    """A connection that has not sent a whole request head within this time is closed."""

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            try:
                ip_network(entry)
            except ValueError as err:
                raise ValueError(f"{entry!r} is no address or network such as 10.1.0.0/16") from err
        return entries


class OidcSettings(_Group):
    """An OpenID Connect provider whose bearer tokens are taken; off while issuer is empty."""

    issuer: ProviderUrl | Literal[""] = ""
    """Exactly as the tokens' ``iss``."""
    audience: str = ""
    """What the tokens' ``aud`` must name: this API at the provider."""
    jwks_url: ProviderUrl | Literal[""] = ""
    """Where the provider's public keys are; empty = as its discovery document says."""
    algorithms: tuple[Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"], ...] = (
        "RS256",
        "ES256",
        "EdDSA",
    )
    """By which tokens may be signed."""
    role_claim: str = "roles"
    """The claim with the roles, a list or words with spaces between; dots go down: ``realm_access.roles``."""
    roles: dict[str, Literal["viewer", "operator", "admin", "enroller", "service"]] = {}
    """Value of that claim -> role here; a token without any of them is refused."""
    collections_claim: str = ""
    """The claim with the names of granted collections; a token without it is granted none. Empty = all are granted."""
    watchlists_claim: str = ""
    """Likewise of watchlists."""
    camera_groups_claim: str = ""
    """Likewise of camera groups."""

    @model_validator(mode="after")
    def _whole(self) -> "OidcSettings":
        if self.issuer and not self.audience:
            raise ValueError("audience: is needed with issuer, or tokens for other services would be taken here")
        if self.issuer and not self.roles:
            raise ValueError("roles: is needed with issuer, or no token would give a role")
        return self


class StorageSettings(_Group):
    """Where uploads, what jobs read, and what they leave are kept."""

    url: str = "file:"
    """``file:`` = the folder objects in data_dir; ``file:///folder``; or ``s3://bucket/prefix``. ``memory:`` forgets all, for tests."""
    endpoint: str = ""
    """Of an S3 that is not Amazon's: ``https://host:port``."""
    region: str = ""
    access_key_id: str = ""
    """Empty = what the environment or the machine's role gives."""
    secret_access_key: SecretStr = SecretStr("")
    upload_expires_s: Annotated[float, Field(ge=60, le=86400)] = 3600.0
    """How long an upload may be begun after it was asked for."""
    max_upload_bytes: Annotated[int, Field(ge=1024, le=1 << 40)] = 4 << 30
    """Of one upload; api.max_upload_bytes limits what other requests carry."""
    upload_keep_days: Annotated[float, Field(gt=0, le=365)] = 7.0
    """Uploads are erased after this, and as soon as a job has used all of one."""


class JobSettings(_Group):
    """Bulk imports and batch recognition."""

    lease_s: Annotated[float, Field(ge=1, le=600)] = 20.0
    """A job whose process is silent for so long goes on in another."""
    max_attempts: Annotated[int, Field(ge=1, le=20)] = 5
    """Tries of one item before it is set apart."""
    retention_days: Annotated[float, Field(gt=0, le=3650)] = 30.0
    """Finished jobs, their reports and results are erased after this."""


class RetentionSettings(_Group):
    """How long single classes of data are kept, where not as long as sightings.retention_days says.

    See also audit.retention_days, jobs.retention_days, storage.upload_keep_days, events.keep_days and enrollment.set_aside_days.
    """

    strangers_days: Annotated[float, Field(gt=0, le=3650)] | None = None
    """Sightings of strangers, and unclear ones. None = as all sightings."""
    thumbnails_days: Annotated[float, Field(gt=0, le=3650)] | None = None
    """Pictures of sightings that stay themselves. None = as long as the sighting."""
    embeddings_days: Annotated[float, Field(gt=0, le=3650)] | None = None
    """Embeddings of sightings that stay themselves; the past can be searched by them so long. None = as long as the sighting."""
    alerts_days: Annotated[float, Field(gt=0, le=3650)] | None = None
    """Alerts, from when they were raised or last grew. None = as sightings."""


class AuditSettings(_Group):
    """What is kept of who did what."""

    purpose_required: bool = False
    """Requests that read or change something of a person must say why, in the header X-Purpose; others are refused."""
    retention_days: Annotated[float, Field(gt=0, le=36500)] | None = None
    """Entries older than this are pruned; the rest can still be verified. None = kept for ever."""


class MatcherSettings(_Group):
    """A shard of the gallery, and how it is asked."""

    storage: Literal["fp32", "fp16", "int8"] = "fp32"
    """How exact embeddings are kept in memory; see docs/matcher.md for bytes and effects."""
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    """An answer that takes longer is partial."""
    load_connections: Annotated[int, Field(ge=1, le=16)] = 4
    """Parallel readers while a shard fills its memory."""


class KafkaSettings(_Group):
    """How the log is reached; only with ``log_url = "kafka://..."``."""

    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username: str = ""
    password: SecretStr = SecretStr("")
    replication: Annotated[int, Field(ge=1, le=7)] = 1
    """Copies of each partition of topics that we create; 3 on a real cluster."""


class BrokerSettings(_Group):
    """How RabbitMQ is reached; only with ``broker_url = "amqp(s)://user@host/vhost"``."""

    password: SecretStr | None = None
    """Instead of one inside the URL."""
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


class MetricsSettings(_Group):
    """Where a fleet process answers /metrics, /health/live and /health/ready."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """None = nowhere; 0 = any free port (told in the ``ready`` line)."""


class OutboundSettings(_Group):
    """Where clients of the API may send this server, by webhooks and cameras that they name.

    Cameras that are added at the machine (``sightline cameras add``) and servers that settings name may be anywhere.
    """

    allow_private_networks: bool = False
    """Whether webhooks may lead to private networks (RFC 1918, fc00::/7); never to loopback, link-local and metadata addresses."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names, addresses and networks that webhooks and cameras may lead to, whatever they are: ``hooks.lan``, ``10.1.0.0/16``."""
    camera_networks: tuple[str, ...] = PRIVATE_NETWORKS
    """Networks that cameras may be in, beside the public internet: private ones, where cameras usually are."""
    allow_loopback_cameras: bool = False
    """Whether cameras may be on this machine: for tests, and for relays that run beside Sightline."""

    @property
    def webhook_allow(self) -> tuple[str, ...]:
        """Return what ``core.outbound.resolve_public`` may allow for webhooks."""
        return (*self.allowed_hosts, *(PRIVATE_NETWORKS if self.allow_private_networks else ()))

    @property
    def camera_allow(self) -> tuple[str, ...]:
        """Return what ``core.outbound.resolve_public`` may allow for cameras."""
        return (*self.allowed_hosts, *self.camera_networks, *(LOOPBACK_NETWORKS if self.allow_loopback_cameras else ()))

    @field_validator("allowed_hosts", "camera_networks")
    @classmethod
    def _readable(cls, entries: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for entry in entries:
            try:
                ip_network(entry)
            except ValueError as err:
                if info.field_name == "camera_networks" or not HOST_NAME.fullmatch(entry):
                    kinds = "a network" if info.field_name == "camera_networks" else "a host name, address or network"
                    raise ValueError(f"{entry!r} is not {kinds} such as 10.1.0.0/16") from err
        return entries


class EventSettings(_Group):
    """The log of events, from which live streams, webhooks and MQTT are fed."""

    keep_days: Annotated[float, Field(gt=0, le=365)] = 7.0
    """How far back streams can resume and webhooks can be replayed; finished deliveries are kept as long."""


class MqttSettings(_Group):
    """Where what is seen is published over MQTT; off without a URL."""

    url: Annotated[str, Field(pattern=r"^mqtts?://[^\s/@]+$")] | None = None
    """``mqtt://host:1883`` or ``mqtts://host:8883``."""
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None
    """Of the broker's certificate, where the system does not know its authority."""
    prefix: Annotated[str, Field(pattern=r"^[^+#/\s\x00][^+#\s\x00]{0,100}$")] = "sightline"
    """What all our topics begin with."""
    discovery_prefix: Annotated[str, Field(pattern=r"^[^+#\s\x00]{0,100}$")] = "homeassistant"
    """Of Home Assistant's MQTT discovery; empty = no discovery."""
    double_take: bool = False
    """Publish also what Double Take would: ``double-take/matches/NAME``, ``double-take/cameras/CAMERA``."""
    qos: Literal[0, 1, 2] = 1
    """0 may lose what is published while the broker goes away."""
    retain_names: bool = True
    """Whether the broker keeps the name of the last person of each camera; erased people's are taken back."""


class FrigateSettings(_Group):
    """Frigate's events of people get the names of those who were seen; off without a URL, and without MQTT."""

    url: Annotated[str, Field(pattern=r"^https?://[!-~]+$")] | None = None
    """``http://frigate:5000``: where sub labels are written to."""
    topic: Annotated[str, Field(pattern=r"^[^+#\s\x00]{1,100}$")] = "frigate/events"
    cameras: dict[str, str] = {}
    """Frigate's name of a camera -> ours; a camera that is not here has the same name."""


class EnrollmentSettings(_Group):
    """How people are enrolled."""

    set_aside_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """Photos that nobody has decided on are deleted after this time."""


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
