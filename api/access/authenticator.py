"""Who asks? API keys, the settings' token, tokens of an identity provider, sessions; and how often they may."""

import asyncio
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
from aiohttp import web

from api.access.address import bucket_of, client_address, is_https, networks
from api.access.key_store import CHANNEL, KeyStore
from api.access.key_text import PREFIX, KeyText, csrf_token, sha256
from api.access.limits import Buckets, Verdict
from api.access.memory import ShortMemory
from api.access.oidc import Tokens
from api.access.passwords import Passwords
from api.access.record import KeyRecord, SessionRecord
from api.access.usage import FLUSH_S, Usage
from api.access.user_store import SessionStore
from api.compat.credentials import access_key_id
from api.errors import ForbiddenError, TooManyRequestsError, UnauthorizedError
from api.principal import PERMISSIONS, Principal
from core.errors import UnavailableError
from core.metrics import Metrics
from core.ports import Database
from core.settings import Settings
from ingest.cameras import camera_names

KEEP_S: Final = 0.8
"""What is known of keys and sessions is never older, so that a revocation counts within a second even where its notification was lost."""
MOST_KNOWN: Final = 10_000
BURST_S: Final = 10  # so many seconds of its rate may come at once
RETRY_S: Final = 0.5
SAFE_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS"))
CSRF_HEADER: Final = "X-CSRF-Token"
ADMINISTRATOR: Final = Principal(actor="settings", name="administrator", role="admin", permissions=PERMISSIONS)
HOW: Final = "send a key in the header 'Authorization: Bearer ...', or log in"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who asks, and by what they have proven it."""

    principal: Principal
    key: KeyRecord | None = None
    session: SessionRecord | None = None
    session_sha256: bytes | None = None


class Authenticator:
    """Knows who asks. One for each process; ``run`` keeps it up to date. Thread rule: one event loop."""

    def __init__(self, db: Database, settings: Settings, metrics: Metrics, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the parts; nothing is read yet."""
        api = settings.api
        self.settings = api
        self.passwords = Passwords()
        self.usage = Usage(db)
        self._db, self._metrics, self._clock = db, metrics, clock
        self._token = None if api.token is None else api.token.get_secret_value().encode()
        self._proxies = networks(api.trusted_proxies)
        self._tokens = Tokens(settings.oidc, clock=clock) if settings.oidc.issuer else None
        self._keys = ShortMemory(KeyStore(db).by_public_id, keep_s=KEEP_S, most=MOST_KNOWN, clock=clock)
        self._sessions = ShortMemory(self._find_session, keep_s=KEEP_S, most=MOST_KNOWN, clock=clock)
        self._cameras = ShortMemory(partial(camera_names, db), keep_s=KEEP_S, most=MOST_KNOWN, clock=clock)
        self._rates, self._strangers, self._logins = Buckets(), Buckets(), Buckets()

    async def run(self) -> None:
        """Write what was counted and hear of revocations, until cancelled; the database may come and go."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._count(), name="count requests")
            group.create_task(self._hear(), name="hear of revocations")

    async def authenticate(self, request: web.Request, body_key: str | None = None) -> Identity:
        """Return who asks.

        Args:
            request: whose headers say it.
            body_key: the key that its body has, where clients send it there.

        Raises:
            UnauthorizedError: nobody that is known, or no longer. ForbiddenError: a session's change without its CSRF token.
            TooManyRequestsError: strangers at this address have asked too often.
        """
        try:
            return await self._identify(request, body_key)
        except UnauthorizedError:
            self._metrics.api_refused.labels("unauthorized").inc()
            self.count_stranger(request)
            raise

    async def of_credential(self, text: str) -> Identity:
        """Return whose a key is, or the settings' token, or a provider's. Raises UnauthorizedError."""
        if (key := KeyText.parse(text)) is not None:
            return await self._of_key(key)
        if self._token is not None and hmac.compare_digest(text.encode(errors="surrogateescape"), self._token):
            return Identity(principal=ADMINISTRATOR)
        if self._tokens is not None and not text.startswith(PREFIX) and text.count(".") == 2:
            return Identity(principal=await self._tokens.principal(text))
        raise UnauthorizedError("the key or token is not known here")

    def rate(self, identity: Identity) -> Verdict | None:
        """Take a token of who asks; None where any number is allowed."""
        key = identity.key
        own = key.rate_per_minute if key is not None else None
        per_minute = own or (self.settings.rate_per_minute if identity.principal is not ADMINISTRATOR else 0)
        return self._take(self._rates, identity.principal.actor, per_minute) if per_minute else None

    def count(self, identity: Identity, rate: Verdict | None) -> None:
        """Count a request. Raises TooManyRequestsError: the rate or the quota of who asks is used up."""
        if rate is not None and not rate.allowed:
            self._metrics.api_refused.labels("rate").inc()
            raise TooManyRequestsError(f"{identity.principal.name} asks too often; wait a moment", retry_s=rate.retry_s)
        if identity.key is not None:
            try:
                self.usage.count(identity.key)
            except TooManyRequestsError:
                self._metrics.api_refused.labels("quota").inc()
                raise
        self.note_use(identity)

    def note_use(self, identity: Identity) -> None:
        """Note that a session is in use, so that it does not end for idleness."""
        if identity.session_sha256 is not None:
            self.usage.note_session(identity.session_sha256)

    async def cameras(self, groups: frozenset[str]) -> frozenset[str]:
        """Return the names of the cameras of any of some groups, as of a moment ago."""
        return await self._cameras.get(groups)

    def count_stranger(self, request: web.Request) -> None:
        """Count a request without proof. Raises TooManyRequestsError: this address makes too many of them."""
        self.require_room(request, cost=1)

    def require_room(self, request: web.Request, *, cost: int = 0) -> None:
        """Refuse an address that has asked too often without proof. Raises TooManyRequestsError."""
        verdict = self._take(self._strangers, self.bucket(request), self.settings.anonymous_per_minute, cost=cost)
        if not verdict.allowed:
            self._metrics.api_refused.labels("anonymous").inc()
            raise TooManyRequestsError("too many requests from this address without a valid key", retry_s=verdict.retry_s)

    def shows_key(self, request: web.Request) -> bool:
        """Tell whether the headers say who asks, rightly or not."""
        return "Authorization" in request.headers or self._given(request) is not None or self.cookie_name(request) in request.cookies

    def require_login_allowed(self, request: web.Request, name: str) -> None:
        """Slow down whoever guesses passwords. Raises TooManyRequestsError: too many logins have failed."""
        waits = [
            self._logins.take(bucket, per_s=per_s, burst=burst, now_s=self._clock(), cost=0).retry_s
            for bucket, per_s, burst in self._login_buckets(request, name)
        ]
        if max(waits) > 0:
            self._metrics.api_refused.labels("login").inc()
            raise TooManyRequestsError("too many logins have failed; wait before you try again", retry_s=max(waits))

    def note_failed_login(self, request: web.Request, name: str) -> None:
        """Remember that a login failed."""
        for bucket, per_s, burst in self._login_buckets(request, name):
            self._logins.take(bucket, per_s=per_s, burst=burst, now_s=self._clock())

    def token_sha256(self) -> bytes | None:
        """Return the hash of the settings' token, by which a session stays bound to it."""
        return None if self._token is None else sha256(self._token.decode())

    def is_https(self, request: web.Request) -> bool:
        """Tell whether the browser speaks HTTPS, so that its cookie may be Secure."""
        return is_https(request, self._proxies)

    def cookie_name(self, request: web.Request) -> str:
        """Return the session cookie's name; ``__Host-`` keeps other hosts and plain HTTP from setting it."""
        return "__Host-sightline" if self.is_https(request) else "sightline"

    def address(self, request: web.Request) -> str:
        """Return the address that asks, seen through trusted proxies."""
        return client_address(request, self._proxies)

    def bucket(self, request: web.Request) -> str:
        """Return the address that asks, as it is counted."""
        return bucket_of(self.address(request))

    def forget(self) -> None:
        """Forget what is known, for something has changed."""
        self._keys.forget()
        self._sessions.forget()

    async def _identify(self, request: web.Request, body_key: str | None) -> Identity:
        given = body_key or self._given(request)
        if given is not None:
            key = KeyText.parse(given)
            if key is None:
                return await self.of_credential(given)
            if self._keys.known(key.public_id) is None:
                self.require_room(request)  # who tries keys one by one asks the database only so often
            return await self._of_key(key)
        cookie = request.cookies.get(self.cookie_name(request), "")
        if not cookie:
            raise UnauthorizedError(HOW)
        return await self._of_cookie(request, cookie)

    def _given(self, request: web.Request) -> str | None:
        """Return the key or token of the headers; never one of the URL, for URLs are logged."""
        header = request.headers.get("Authorization")
        if header is not None:
            scheme, _, given = header.partition(" ")
            if scheme.lower() == "bearer":
                return given.strip()
            if scheme != "AWS4-HMAC-SHA256":
                raise UnauthorizedError(f"Authorization: only Bearer is known here; {HOW}")
        return request.headers.get("X-Api-Key") or request.headers.get("X-Amz-Security-Token") or access_key_id(header)

    async def _of_key(self, given: KeyText) -> Identity:
        key = await self._keys.get(given.public_id)
        matches = key is not None and any([hmac.compare_digest(given.secret_sha256, secret) for secret in key.secrets])
        if key is None or not matches or not key.valid:
            raise UnauthorizedError("the key is not known here, or has expired, or is revoked")
        return Identity(principal=key.principal, key=key)

    async def _of_cookie(self, request: web.Request, cookie: str) -> Identity:
        digest = sha256(cookie)
        if self._sessions.known(digest) is None:
            self.require_room(request)
        identity = self._of_session(await self._sessions.get(digest), digest)
        if request.method not in SAFE_METHODS and not hmac.compare_digest(
            request.headers.get(CSRF_HEADER, "").encode(errors="surrogateescape"), csrf_token(cookie).encode()
        ):
            self._metrics.api_refused.labels("csrf").inc()
            raise ForbiddenError(
                f"a session changes things only with its token in the header {CSRF_HEADER}; GET /v1/sessions/current tells it"
            )
        return identity

    def _of_session(self, session: SessionRecord | None, digest: bytes) -> Identity:
        principal: Principal | None = None
        if session is not None and session.user is not None and not session.user.disabled:
            principal = session.user.principal
        elif session is not None and session.key is not None and session.key.valid:
            principal = session.key.principal
        elif session is not None and session.token_sha256 is not None and session.token_sha256 == self.token_sha256():
            principal = ADMINISTRATOR
        if session is None or principal is None:
            raise UnauthorizedError("the session has ended; log in again")
        return Identity(principal=principal, key=session.key, session=session, session_sha256=digest)

    async def _find_session(self, digest: bytes) -> SessionRecord | None:
        return await SessionStore(self._db).find(digest, idle_s=self.settings.session_idle_s)

    def _take(self, buckets: Buckets, name: str, per_minute: int, *, cost: int = 1) -> Verdict:
        burst = max(1, per_minute * BURST_S // 60)
        return buckets.take(name, per_s=per_minute / 60, burst=burst, now_s=self._clock(), cost=cost)

    def _login_buckets(self, request: web.Request, name: str) -> list[tuple[str, float, int]]:
        """Return (bucket, tokens a second, burst): one for a name at an address, one for the address, one for the name wherever."""
        address, name = self.bucket(request), name.lower()
        return [(f"both {name} {address}", 1 / 30, 5), (f"address {address}", 1 / 10, 20), (f"name {name}", 1 / 5, 50)]

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            try:
                if await self.usage.flush():
                    self._keys.forget()  # quotas go by what the database has counted
            except UnavailableError as err:
                _log.warning("requests can't be counted", reason=str(err))

    async def _hear(self) -> None:
        while True:
            try:
                async with self._db.listen(CHANNEL) as changes:
                    self.forget()
                    async for _ in changes:
                        self.forget()
            except UnavailableError as err:
                _log.warning("revocations are not heard of", reason=str(err))
            await asyncio.sleep(RETRY_S)
