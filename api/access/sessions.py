"""Logging in and out: sessions of browsers. See api.access.authenticator for what a session's cookie is worth."""

from aiohttp import web

from api.access.authenticator import Identity
from api.access.guard import IDENTITY
from api.access.key_text import csrf_token, new_secret, sha256
from api.access.models import Login, OwnPassword, SessionEnded, SessionView
from api.access.record import SessionRecord, UserRecord
from api.access.user_store import SessionStore, UserStore
from api.errors import UnauthorizedError, UnprocessableError
from api.principal import PRINCIPAL
from api.route import answer
from api.services import services
from api.uploads import read_json
from core.errors import NotFoundError

WRONG = "user or password is wrong"


async def begin_session(request: web.Request) -> web.Response:
    """Log in: the answer sets the session's cookie, always a new one, so that nobody can plant theirs beforehand."""
    body = await read_json(request, Login)
    access = services(request).access
    if body.key is not None and body.user is None and body.password is None:
        identity = await access.of_credential(body.key.get_secret_value())
        user = None
        if identity.key is None and identity.principal.actor != "settings":
            raise UnprocessableError(
                "log in with a key or with a password; tokens of the identity provider go into the header Authorization"
            )
    elif body.user is not None and body.password is not None and body.key is None:
        user = await _by_password(request, body.user, body.password.get_secret_value())
        identity = Identity(principal=user.principal)
    else:
        raise UnprocessableError("give user and password, or key")
    secret = new_secret()
    session = await _store(request, sha256(secret), user, identity)
    request[PRINCIPAL] = identity.principal  # the audit keeps a login as theirs, each one
    response = answer(SessionView.of(identity.principal, session=session, csrf=csrf_token(secret)), status=201)
    response.set_cookie(
        access.cookie_name(request),
        secret,
        max_age=round(access.settings.session_s),
        path="/",
        secure=access.is_https(request),
        httponly=True,
        samesite="Strict",
    )
    return response


async def get_session(request: web.Request) -> web.Response:
    """Say who asks, and what they may do."""
    identity = request[IDENTITY]
    csrf = csrf_token(request.cookies[services(request).access.cookie_name(request)]) if identity.session else None
    return answer(SessionView.of(identity.principal, session=identity.session, csrf=csrf))


async def end_session(request: web.Request) -> web.Response:
    """Log out."""
    access, identity = services(request).access, request[IDENTITY]
    if identity.session_sha256 is None:
        raise NotFoundError("session: a key or token has none; revoke the key instead")
    await SessionStore(services(request).db).end(identity.session_sha256)
    access.forget()
    response = answer(SessionEnded())
    response.del_cookie(access.cookie_name(request), path="/", secure=access.is_https(request), httponly=True, samesite="Strict")
    return response


async def change_own_password(request: web.Request) -> web.Response:
    """Change the password of who asks; all their sessions end."""
    body = await read_json(request, OwnPassword)
    session: SessionRecord | None = request[IDENTITY].session
    if session is None or session.user is None:
        raise NotFoundError("user: only who has logged in with a password has one")
    access = services(request).access
    user = await _by_password(request, session.user.name, body.password.get_secret_value())
    encoded = await access.passwords.hash(body.new_password.get_secret_value())
    await UserStore(services(request).db).change(user.user_id, {"password": encoded})
    access.forget()
    return answer(SessionEnded())


async def _by_password(request: web.Request, name: str, password: str) -> UserRecord:
    """Return the user of a name and password; the answer to a wrong one takes as long and says as little, whatever is wrong."""
    access, users = services(request).access, UserStore(services(request).db)
    access.require_login_allowed(request, name)
    user = await users.by_name(name)
    right = await access.passwords.matches(user.password if user else None, password)
    if user is None or not right or user.disabled:
        access.note_failed_login(request, name)
        services(request).metrics.api_refused.labels("login").inc()
        raise UnauthorizedError(WRONG)
    outdated = access.passwords.is_outdated(user.password)
    await users.logged_in(user.user_id, password=await access.passwords.hash(password) if outdated else None)
    return user


async def _store(request: web.Request, digest: bytes, user: UserRecord | None, identity: Identity) -> SessionRecord:
    access, sessions = services(request).access, SessionStore(services(request).db)
    before = request.cookies.get(access.cookie_name(request))
    if before:
        await sessions.end(sha256(before))
    token = access.token_sha256() if user is None and identity.key is None else None
    return await sessions.begin(digest, lasts_s=access.settings.session_s, user=user, key=identity.key, token_sha256=token)
