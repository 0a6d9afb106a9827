"""Bearer tokens of an OpenID Connect provider: signed by its keys, for this audience, in their time; anything else is refused.

Follows RFC 8725 (best current practices for JSON Web Tokens): algorithms are listed here, never taken from the token; only asymmetric
ones; issuer, audience and times are required.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import aiohttp
import jwt
import msgspec
import structlog

from api.access.record import permissions_of
from api.errors import UnauthorizedError
from api.principal import ROLES, Grant, Principal
from core.errors import UnavailableError
from core.settings import OidcSettings

LEEWAY_S: Final = 30
REFRESH_S: Final = 30.0  # at most so often for a key id that nobody knows
KEEP_S: Final = 3600.0  # a key that the provider takes back is of no use after this
FETCH_S: Final = 5.0
MAX_BYTES: Final = 256 << 10
MAX_TOKEN: Final = 16 << 10  # characters
REQUIRED: Final = ["exp", "iss", "aud", "sub"]
DISCOVERY: Final = "/.well-known/openid-configuration"

_log = structlog.get_logger(__name__)


class Tokens:
    """Says who has a token. Thread rule: one event loop."""

    def __init__(self, settings: OidcSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock = settings, clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_s: float | None = None
        self._tried_s: float | None = None
        self._reading = asyncio.Lock()

    async def principal(self, token: str) -> Principal:
        """Return who has a token.

        Raises:
            UnauthorizedError: it is not good; says in general terms why. UnavailableError: the provider's keys can't be read.
        """
        if len(token) > MAX_TOKEN:
            raise UnauthorizedError("the token is too long")
        key = await self._key(_key_id(token, self._settings))
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=list(self._settings.algorithms),
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=LEEWAY_S,
                options={"require": REQUIRED},
            )
        except jwt.PyJWTError as err:
            raise UnauthorizedError(f"the token is not good: {_reason(err)}") from err
        return _principal(claims, self._settings)

    async def _key(self, key_id: str) -> jwt.PyJWK:
        if self._is_due(key_id) and not (key_id in self._keys and self._reading.locked()):  # what is known serves while another reads
            async with self._reading:
                if self._is_due(key_id):  # nobody has read them meanwhile
                    await self._refresh()
        if not self._keys:
            raise UnavailableError("oidc: the keys of the identity provider can't be read at the moment")
        key = self._keys.get(key_id)
        if key is None:
            raise UnauthorizedError("the token is signed with a key that the identity provider does not list")
        return key

    async def _refresh(self) -> None:
        try:
            self._keys = await read_keys(self._settings)
            self._read_s = self._clock()
        except UnavailableError as err:
            _log.warning("keys of the identity provider can't be read", reason=str(err))
            if self._read_s is not None and self._clock() - self._read_s > 2 * KEEP_S:
                self._keys = {}
        self._tried_s = self._clock()  # at the end: who comes meanwhile waits for what is read

    def _is_due(self, key_id: str) -> bool:
        now_s = self._clock()
        if self._tried_s is not None and now_s - self._tried_s < REFRESH_S:
            return False
        return key_id not in self._keys or self._read_s is None or now_s - self._read_s > KEEP_S


async def read_keys(settings: OidcSettings) -> dict[str, jwt.PyJWK]:
    """Read the provider's public keys by their ids; those that are symmetric, for encryption, or unknown to us are left out.

    Raises:
        UnavailableError: it does not answer, or not as it should.
    """
    try:
        async with asyncio.timeout(2 * FETCH_S), aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=FETCH_S)) as session:
            url = settings.jwks_url or await _discover(session, settings.issuer)
            found = await _read_json(session, url)
    except (aiohttp.ClientError, TimeoutError, OSError) as err:
        raise UnavailableError(f"oidc: {settings.issuer}: {type(err).__name__}: does not answer") from err
    listed = found.get("keys") if isinstance(found, dict) else None
    keys: dict[str, jwt.PyJWK] = {}
    for one in listed if isinstance(listed, list) else []:
        if not isinstance(one, dict) or one.get("kty") not in ("RSA", "EC", "OKP") or one.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK(one)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        if key.algorithm_name in settings.algorithms:
            keys[str(one.get("kid", ""))] = key
    if not keys:
        raise UnavailableError(f"oidc: {url}: lists no key for {', '.join(settings.algorithms)}")
    return keys


async def _discover(session: aiohttp.ClientSession, issuer: str) -> str:
    found = await _read_json(session, issuer.rstrip("/") + DISCOVERY)
    if not isinstance(found, dict) or found.get("issuer") != issuer or not isinstance(found.get("jwks_uri"), str):
        raise UnavailableError(f"oidc: {issuer}: its discovery document names another issuer, or no jwks_uri")
    return cast(str, found["jwks_uri"])


async def _read_json(session: aiohttp.ClientSession, url: str) -> Any:
    async with session.get(url, allow_redirects=False) as response:
        if response.status != 200:
            raise UnavailableError(f"oidc: {url}: answered {response.status}")
        data = bytearray()
        async for chunk in response.content.iter_chunked(64 << 10):
            data += chunk
            if len(data) > MAX_BYTES:
                raise UnavailableError(f"oidc: {url}: answered more than {MAX_BYTES} bytes")
    try:
        return msgspec.json.decode(bytes(data))
    except msgspec.DecodeError as err:
        raise UnavailableError(f"oidc: {url}: did not answer JSON") from err


def _key_id(token: str, settings: OidcSettings) -> str:
    """Return the id of the key that a token says it is signed with."""
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError as err:
        raise UnauthorizedError("the token can't be read") from err
    if header.get("alg") not in settings.algorithms:
        raise UnauthorizedError(f"the token is not good: its algorithm is none of {', '.join(settings.algorithms)}")
    if "crit" in header:
        raise UnauthorizedError("the token is not good: it has critical headers that are not known here")
    key_id = header.get("kid", "")
    return key_id if isinstance(key_id, str) else ""


def _principal(claims: Mapping[str, Any], settings: OidcSettings) -> Principal:
    given = set(_texts(_claim(claims, settings.role_claim)))
    held = [role for value, role in settings.roles.items() if value in given]
    if not held:
        raise UnauthorizedError(f"the token gives no role here: its claim '{settings.role_claim}' has none of the values of oidc.roles")
    role = max(held, key=lambda one: len(ROLES[one]))
    name = claims.get("preferred_username") or claims.get("email") or claims["sub"]
    return Principal(
        actor=f"oidc:{str(claims['sub'])[:200]}",
        name=str(name)[:200],
        role=role,
        permissions=permissions_of(role),
        collections=_grant(claims, settings.collections_claim),
        watchlists=_grant(claims, settings.watchlists_claim),
        camera_groups=_grant(claims, settings.camera_groups_claim),
    )


def _grant(claims: Mapping[str, Any], name: str) -> Grant:
    """Return the names of a claim; a setting without a claim's name grants all, a token without the claim nothing."""
    return frozenset(_texts(_claim(claims, name))) if name else None


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """Return a claim; dots go down, as in ``realm_access.roles``."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return value.split()
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _reason(err: jwt.PyJWTError) -> str:
    reasons: list[tuple[type[jwt.PyJWTError], str]] = [
        (jwt.ExpiredSignatureError, "it has expired"),
        (jwt.ImmatureSignatureError, "it is not valid yet"),
        (jwt.InvalidAudienceError, "it is for another audience"),
        (jwt.InvalidIssuerError, "it is from another issuer"),
        (jwt.MissingRequiredClaimError, f"it lacks one of {', '.join(REQUIRED)}"),
        (jwt.InvalidSignatureError, "its signature is wrong"),
    ]
    return next((text for kind, text in reasons if isinstance(err, kind)), "it can't be read")
