"""API keys and users. Who manages them sees, makes and changes only such that hold no more than they do themselves."""

from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from api.access.key_store import KeyStore, Made, NewKey, no_key
from api.access.models import (
    KeyMade,
    KeyPage,
    KeyPatch,
    KeyQuery,
    KeyView,
    NewKeyBody,
    NewUserBody,
    Rotation,
    UserPage,
    UserPatch,
    UserQuery,
    UserRemoved,
    UserView,
)
from api.access.record import KeyRecord, UserRecord, permissions_of, principal_of
from api.access.user_store import NewUser, UserStore, no_user
from api.cursor import decode_name, page_by_name
from api.errors import ForbiddenError, UnprocessableError, sensible
from api.notes import note
from api.principal import Principal, principal
from api.route import answer, expected_version
from api.services import services
from api.uploads import read_json, read_query

MORE = "nobody can give more than they hold themselves: role, scopes, collections, watchlists, camera groups"
_NEVER_NULL = {"name", "role", "disabled", "password"}


async def list_keys(request: web.Request) -> web.Response:
    """Return a page of keys."""
    query = read_query(request, KeyQuery)
    with sensible():
        keys, following = await _keys(request).page(limit=query.limit, cursor=query.cursor)
    who = principal(request)
    return answer(KeyPage(keys=[KeyView.of(key) for key in keys if who.covers(key.principal)], next_cursor=following))


async def create_key(request: web.Request) -> web.Response:
    """Make a key; the only time that its secret is shown."""
    body = await read_json(request, NewKeyBody)
    _check_scopes(body.role, body.scopes)
    _require_held(request, principal_of(body, scopes=body.scopes))
    new = NewKey(**{one.name: getattr(body, one.name) for one in fields(NewKey)} | {"expires_at": _future(body.expires_at)})
    made = await _keys(request).create(new, created_by=principal(request).actor)
    note(request, key_id=made.key.key_id, role=made.key.role)
    response = _made(made, status=201)
    response.headers["Location"] = f"/v1/keys/{made.key.key_id}"
    return response


async def get_key(request: web.Request) -> web.Response:
    """Return a key, without its secret."""
    key = await _key(request)
    return answer(KeyView.of(key), version=key.version)


async def update_key(request: web.Request) -> web.Response:
    """Change a key's name, limits and grants."""
    body = await read_json(request, KeyPatch)
    key = await _key(request)
    changes = _given(body)
    if "expires_at" in changes:
        changes["expires_at"] = _future(changes["expires_at"])
    if "scopes" in changes:
        _check_scopes(key.role, changes["scopes"])
    _require_held(request, replace(key, **changes).principal)
    changed = await _keys(request).change(key.key_id, changes, version=expected_version(request))
    services(request).access.forget()
    note(request, key_id=key.key_id, changed=sorted(changes))
    return answer(KeyView.of(changed), version=changed.version)


async def rotate_key(request: web.Request) -> web.Response:
    """Give a key a new secret; the only time that it is shown."""
    body = await read_json(request, Rotation)
    key = await _key(request)
    made = await _keys(request).rotate(key.key_id, grace_s=body.grace_s)
    services(request).access.forget()
    note(request, key_id=key.key_id, grace_s=body.grace_s)
    return _made(made, status=200)


async def revoke_key(request: web.Request) -> web.Response:
    """Make a key of no use."""
    key = await _key(request)
    revoked = await _keys(request).revoke(key.key_id)
    services(request).access.forget()
    note(request, key_id=key.key_id)
    return answer(KeyView.of(revoked), version=revoked.version)


async def list_users(request: web.Request) -> web.Response:
    """Return a page of users."""
    query = read_query(request, UserQuery)
    found = await _users(request).page(limit=query.limit + 1, after=decode_name(query.cursor))
    page, following = page_by_name(found, query.limit, lambda user: user.name)
    who = principal(request)
    return answer(UserPage(users=[UserView.of(one) for one in page if who.covers(one.principal)], next_cursor=following))


async def create_user(request: web.Request) -> web.Response:
    """Make a user."""
    body = await read_json(request, NewUserBody)
    _require_held(request, principal_of(body))
    password = await services(request).access.passwords.hash(body.password.get_secret_value())
    new = NewUser(**{one.name: getattr(body, one.name) for one in fields(NewUser)} | {"password": password})
    user = await _users(request).create(new, created_by=principal(request).actor)
    note(request, user_id=user.user_id, role=user.role)
    response = answer(UserView.of(user), status=201, version=user.version)
    response.headers["Location"] = f"/v1/users/{user.user_id}"
    return response


async def get_user(request: web.Request) -> web.Response:
    """Return a user."""
    user = await _user(request)
    return answer(UserView.of(user), version=user.version)


async def update_user(request: web.Request) -> web.Response:
    """Change a user's role, grants or password, or disable the user."""
    body = await read_json(request, UserPatch)
    user = await _user(request)
    changes = _given(body)
    password = changes.pop("password", None)
    _require_held(request, replace(user, **changes).principal)
    if password is not None:
        changes["password"] = await services(request).access.passwords.hash(password.get_secret_value())
    changed = await _users(request).change(user.user_id, changes, version=expected_version(request))
    services(request).access.forget()
    note(request, user_id=user.user_id, changed=sorted(changes))
    return answer(UserView.of(changed), version=changed.version)


async def remove_user(request: web.Request) -> web.Response:
    """Remove a user."""
    user = await _user(request)
    await _users(request).remove(user.user_id)
    services(request).access.forget()
    note(request, user_id=user.user_id)
    return answer(UserRemoved(user_id=user.user_id))


async def _key(request: web.Request) -> KeyRecord:
    """Return the key of the path; one that holds more than who asks is not there for them."""
    key = await _keys(request).get(request.match_info["key_id"])
    if not principal(request).covers(key.principal):
        raise no_key(request.match_info["key_id"])
    return key


async def _user(request: web.Request) -> UserRecord:
    user = await _users(request).get(request.match_info["user_id"])
    if not principal(request).covers(user.principal):
        raise no_user(request.match_info["user_id"])
    return user


def _require_held(request: web.Request, wanted: Principal) -> None:
    if not principal(request).covers(wanted):
        raise ForbiddenError(MORE)


def _check_scopes(role: str, scopes: frozenset[str] | None) -> None:
    if scopes is not None and (beyond := sorted(scopes - permissions_of(role))):
        raise UnprocessableError(f"scopes: the role {role} does not have {', '.join(beyond)}")


def _future(time: datetime | None) -> datetime | None:
    if time is None:
        return None
    try:
        utc = time.astimezone(UTC)
    except OverflowError:
        raise UnprocessableError("expires_at: is no time that can be kept") from None
    if utc <= datetime.now(UTC):
        raise UnprocessableError("expires_at: is over already; DELETE revokes a key")
    return utc


def _given(body: KeyPatch | UserPatch) -> dict[str, Any]:
    """Return the fields that are to change; null lifts a limit, and leaves alone what must have a value."""
    given = {name: getattr(body, name) for name in body.model_fields_set}
    return {name: value for name, value in given.items() if value is not None or name not in _NEVER_NULL}


def _made(made: Made, *, status: int) -> web.Response:
    return answer(KeyMade.of(made.key, key=made.text), status=status, version=made.key.version)


def _keys(request: web.Request) -> KeyStore:
    return KeyStore(services(request).db)


def _users(request: web.Request) -> UserStore:
    return UserStore(services(request).db)
