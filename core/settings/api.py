"""The HTTP server, who may use it, and where it may be sent."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator

from core.outbound import HOST_NAME, LOOPBACK_NETWORKS, PRIVATE_NETWORKS
from core.settings.group import Group, is_network

HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,253}$")]
Origin = Annotated[str, Field(pattern=r"^https?://[a-z0-9.-]{1,253}(:[0-9]{1,5})?$")]
ProviderUrl = Annotated[str, Field(pattern=r"^(https://|http://(localhost|127\.0\.0\.1)[:/])")]
"""HTTPS, or this machine for tests: whoever can change the keys on their way can make any token."""


class ApiSettings(Group):
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
            if not is_network(entry):
                raise ValueError(f"{entry!r} is no address or network such as 10.1.0.0/16")
        return entries


class OidcSettings(Group):
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
    roles: dict[str, Literal["viewer", "operator", "admin", "enroller", "service"]] = Field(default_factory=dict)
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


class OutboundSettings(Group):
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
        networks_only = info.field_name == "camera_networks"
        for entry in entries:
            if not is_network(entry) and (networks_only or not HOST_NAME.fullmatch(entry)):
                kinds = "a network" if networks_only else "a host name, address or network"
                raise ValueError(f"{entry!r} is not {kinds} such as 10.1.0.0/16")
        return entries
