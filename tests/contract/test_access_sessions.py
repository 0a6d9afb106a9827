"""Users and sessions: logging in, CSRF, fixation, guessing, and how sessions end."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientResponse, CookieJar
from aiohttp.test_utils import TestClient
from argon2 import PasswordHasher

from api.access.authenticator import Authenticator
from api.access.key_store import KeyStore
from api.access.passwords import Passwords
from api.access.user_store import NewUser, UserStore
from api.app import build_app
from api.services import ApiServices
from core.ports import Database
from core.settings import ApiSettings
from tests.builders.access import PASSWORD, bearer, log_in, make_key
from tests.builders.api import ADMIN, TOKEN, services

ClientMaker = Callable[..., Awaitable[TestClient]]
WRONG = "user or password is wrong"


@pytest.fixture
def behind(db: Database) -> ApiServices:
    return services(db)


@pytest.fixture
def new_client(behind: ApiServices, aiohttp_client: ClientMaker) -> Callable[[], Awaitable[TestClient]]:
    app = build_app(behind)
    servers: list[TestClient] = []

    async def make() -> TestClient:
        """Return a browser of its own; all talk to one server."""
        if not servers:
            servers.append(await aiohttp_client(app, cookie_jar=CookieJar(unsafe=True)))
            return servers[0]
        return await aiohttp_client(servers[0].server, cookie_jar=CookieJar(unsafe=True))

    return make


@pytest.fixture
async def client(new_client: Callable[[], Awaitable[TestClient]]) -> TestClient:
    return await new_client()


@pytest.fixture(scope="module")
def encoded() -> str:
    """The hash of PASSWORD: made once, for it is slow on purpose."""
    return PasswordHasher().hash(PASSWORD)


@pytest.fixture
async def ada(db: Database, encoded: str) -> str:
    """The id of a user."""
    new = NewUser(name="Ada", role="admin", password=encoded)
    return (await UserStore(db).create(new, created_by="test")).user_id


async def refused(response: ClientResponse, status: int) -> str:
    body = await response.json()
    assert response.status == status, body
    return str(body["error"]["message"])


async def test_a_login_sets_a_cookie_that_scripts_and_other_sites_do_not_get(client: TestClient, ada: str) -> None:
    response = await client.post("/v1/sessions", json={"user": "ADA", "password": PASSWORD})
    body = await response.json()
    assert (response.status, body["actor"], body["role"]) == (201, f"user:{ada}", "admin")
    cookie = response.headers["Set-Cookie"]
    for part in ("sightline=", "HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"):
        assert part in cookie
    assert "Secure" not in cookie
    assert (await client.get("/v1/subjects")).status == 200
    current = await (await client.get("/v1/sessions/current")).json()
    assert (current["actor"], current["csrf_token"]) == (f"user:{ada}", body["csrf_token"])
    assert "access.write" in current["permissions"]


async def test_behind_a_trusted_https_proxy_the_cookie_is_secure(db: Database, aiohttp_client: ClientMaker, ada: str) -> None:
    client = await aiohttp_client(build_app(services(db, api=ApiSettings(trusted_proxies=("127.0.0.1",)))))
    login = {"user": "ada", "password": PASSWORD}
    cookie = (await client.post("/v1/sessions", json=login, headers={"X-Forwarded-Proto": "https"})).headers["Set-Cookie"]
    assert cookie.startswith("__Host-sightline=")
    assert "Secure" in cookie
    stranger = await aiohttp_client(build_app(services(db)))
    cookie = (await stranger.post("/v1/sessions", json=login, headers={"X-Forwarded-Proto": "https"})).headers["Set-Cookie"]
    assert "Secure" not in cookie  # nobody has said that this proxy may be believed


async def test_a_session_changes_nothing_without_its_csrf_token(client: TestClient, ada: str) -> None:
    csrf = await log_in(client, user="ada", password=PASSWORD)
    for headers in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": "0" * 64}):
        assert "X-CSRF-Token" in await refused(await client.post("/v1/subjects", json={"name": "Eve"}, headers=headers), 403)
        assert (await client.delete("/v1/sessions/current", headers=headers)).status == 403
    assert (await client.post("/v1/subjects", json={"name": "Eve"}, headers=csrf | {"Origin": "https://evil.example"})).status == 403
    assert (await client.post("/v1/subjects", json={"name": "Ada"}, headers=csrf)).status == 201


async def test_the_csrf_token_of_another_session_is_of_no_use(new_client: Callable[[], Awaitable[TestClient]], ada: str) -> None:
    one, other = await new_client(), await new_client()
    await log_in(one, user="ada", password=PASSWORD)
    foreign = await log_in(other, user="ada", password=PASSWORD)
    assert (await one.post("/v1/subjects", json={"name": "Eve"}, headers=foreign)).status == 403


async def test_a_session_that_was_planted_before_the_login_is_not_the_session_after_it(client: TestClient, ada: str) -> None:
    planted = "A" * 43
    client.session.cookie_jar.update_cookies({"sightline": planted}, client.make_url("/"))
    assert (await client.get("/v1/sessions/current")).status == 401
    first = (await client.post("/v1/sessions", json={"user": "ada", "password": PASSWORD})).cookies["sightline"].value
    second = (await client.post("/v1/sessions", json={"user": "ada", "password": PASSWORD})).cookies["sightline"].value
    assert len({planted, first, second}) == 3
    for gone in (planted, first):  # the one that the login found ends with it
        assert (
            await client.get("/v1/sessions/current", headers={"Cookie": f"sightline={gone}"}, cookies={"sightline": gone})
        ).status == 401


async def test_logging_out_ends_the_session_on_the_server(client: TestClient, ada: str, db: Database) -> None:
    csrf = await log_in(client, user="ada", password=PASSWORD)
    (cookie,) = (one.value for one in client.session.cookie_jar)
    assert (await client.delete("/v1/sessions/current", headers=csrf)).status == 200
    client.session.cookie_jar.update_cookies({"sightline": cookie}, client.make_url("/"))
    assert (await client.get("/v1/subjects")).status == 401
    assert await db.fetch("select from api_session") == []
    assert (await client.delete("/v1/sessions/current", headers=ADMIN)).status == 404


@pytest.mark.parametrize(
    "ending",
    [
        "update api_session set ends_at = now() - interval '1 second'",
        "update api_session set used_at = now() - interval '61 minutes'",
        "update api_user set disabled = true",
        "delete from api_user",
    ],
)
async def test_sessions_end(client: TestClient, behind: ApiServices, ada: str, db: Database, ending: str) -> None:
    await log_in(client, user="ada", password=PASSWORD)
    assert (await client.get("/v1/subjects")).status == 200
    await db.execute(ending)
    behind.access.forget()
    assert "log in again" in await refused(await client.get("/v1/subjects"), 401)


async def test_a_session_in_use_does_not_end_for_idleness(client: TestClient, behind: ApiServices, ada: str, db: Database) -> None:
    await log_in(client, user="ada", password=PASSWORD)
    await db.execute("update api_session set used_at = now() - interval '59 minutes'")
    await client.get("/v1/subjects")
    await behind.access.usage.flush()
    assert (await db.fetch("select now() - used_at < interval '1 minute' as fresh from api_session"))[0]["fresh"]


async def test_only_a_hash_of_the_session_is_stored(client: TestClient, ada: str, db: Database) -> None:
    await log_in(client, user="ada", password=PASSWORD)
    (cookie,) = (one.value for one in client.session.cookie_jar)
    (row,) = await db.fetch("select to_jsonb(s)::text as everything from api_session s")
    assert cookie not in row["everything"]
    (user,) = await db.fetch("select password from api_user")
    assert user["password"].startswith("$argon2id$")


async def test_a_session_of_a_key_is_worth_what_the_key_is(client: TestClient, behind: ApiServices, db: Database) -> None:
    key = await make_key(db, "viewer")
    csrf = await log_in(client, key=key.text)
    assert (await client.get("/v1/sightings")).status == 200
    assert (await client.post("/v1/subjects", json={"name": "x"}, headers=csrf)).status == 403
    await KeyStore(db).revoke(key.key.key_id)
    behind.access.forget()
    assert (await client.get("/v1/sightings")).status == 401


async def test_a_session_of_the_settings_token_ends_with_that_token(
    client: TestClient, behind: ApiServices, db: Database, aiohttp_client: ClientMaker
) -> None:
    await log_in(client, key=TOKEN)
    (cookie,) = (one.value for one in client.session.cookie_jar)
    assert (await client.get("/v1/keys")).status == 200
    changed = await aiohttp_client(build_app(services(db, api=ApiSettings(token="another-token-of-the-settings"))))
    assert (await changed.get("/v1/keys", cookies={"sightline": cookie})).status == 401


@pytest.mark.parametrize(
    "body", [{}, {"user": "ada"}, {"password": "x"}, {"user": "a", "password": "b", "key": "c"}, {"user": "a", "key": "c"}]
)
async def test_half_a_login_makes_no_sense(client: TestClient, body: dict[str, str]) -> None:
    assert await refused(await client.post("/v1/sessions", json=body), 422) == "give user and password, or key"


async def test_unknown_users_wrong_passwords_and_disabled_users_look_alike(client: TestClient, ada: str, db: Database) -> None:
    took: dict[str, float] = {}
    for who, name in (("wrong password", "ada"), ("unknown", "nobody")):
        began_s = time.perf_counter()
        assert await refused(await client.post("/v1/sessions", json={"user": name, "password": "not it at all"}), 401) == WRONG
        took[who] = time.perf_counter() - began_s
    assert 0.2 < took["unknown"] / took["wrong password"] < 5  # both compute a hash: without, it would be a fiftieth
    await UserStore(db).change(ada, {"disabled": True})
    assert await refused(await client.post("/v1/sessions", json={"user": "ada", "password": PASSWORD}), 401) == WRONG


async def test_guessing_passwords_is_slowed_down_even_for_the_right_one(client: TestClient, ada: str) -> None:
    for _ in range(5):
        await refused(await client.post("/v1/sessions", json={"user": "ada", "password": "not it at all"}), 401)
    response = await client.post("/v1/sessions", json={"user": "Ada", "password": PASSWORD})
    assert "wait before you try again" in await refused(response, 429)
    assert 1 <= int(response.headers["Retry-After"]) <= 30


async def test_one_s_own_password_is_changed_with_the_old_one_and_ends_all_sessions(
    new_client: Callable[[], Awaitable[TestClient]], ada: str
) -> None:
    client, elsewhere = await new_client(), await new_client()
    csrf = await log_in(client, user="ada", password=PASSWORD)
    await log_in(elsewhere, user="ada", password=PASSWORD)
    change = {"password": "not it at all", "new_password": "another good password"}
    assert await refused(await client.put("/v1/sessions/current/password", json=change, headers=csrf), 401) == WRONG
    assert (await client.put("/v1/sessions/current/password", json=change | {"password": PASSWORD}, headers=csrf)).status == 200
    assert [(await one.get("/v1/subjects")).status for one in (client, elsewhere)] == [401, 401]
    await log_in(client, user="ada", password="another good password")
    assert (await client.put("/v1/sessions/current/password", json=change, headers=ADMIN)).status == 404


async def test_users_are_made_changed_listed_and_removed(client: TestClient) -> None:
    made = await client.post("/v1/users", json={"name": "bob", "password": PASSWORD, "role": "viewer"}, headers=ADMIN)
    bob: dict[str, Any] = await made.json()
    assert (made.status, made.headers["Location"]) == (201, f"/v1/users/{bob['user_id']}")
    assert "password" not in bob
    taken = await client.post("/v1/users", json={"name": "BOB", "password": PASSWORD, "role": "viewer"}, headers=ADMIN)
    assert await refused(taken, 409) == "user 'BOB': is there already"
    path = made.headers["Location"]
    changed = await client.patch(
        path, json={"role": "operator", "camera_groups": ["lobby"]}, headers=ADMIN | {"If-Match": made.headers["ETag"]}
    )
    assert (await changed.json())["camera_groups"] == ["lobby"]
    stale = await client.patch(path, json={"disabled": True}, headers=ADMIN | {"If-Match": made.headers["ETag"]})
    assert stale.status == 412
    listed = await (await client.get("/v1/users", headers=ADMIN)).json()
    assert [user["name"] for user in listed["users"]] == ["bob"]
    assert (await client.delete(path, headers=ADMIN)).status == 200
    assert (await client.get(path, headers=ADMIN)).status == 404


async def test_a_key_that_may_less_can_t_take_over_an_administrator(client: TestClient, ada: str, db: Database) -> None:
    narrow = bearer(await make_key(db, scopes=frozenset(("access.write",))))
    for method, body in (("PATCH", {"password": "my own password now"}), ("DELETE", None), ("GET", None)):
        assert (
            await refused(await client.request(method, f"/v1/users/{ada}", json=body, headers=narrow), 404) == f"user {ada}: there is none"
        )


async def test_passwords_are_hashed_two_at_a_time_and_only_so_many_wait(behind: ApiServices) -> None:
    passwords: Passwords = Authenticator(behind.db, behind.settings, behind.metrics).passwords
    asked = [asyncio.create_task(passwords.matches(None, "x")) for _ in range(20)]
    done, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_EXCEPTION)
    assert {str(one.exception()) for one in done} == {"16 logins run or wait; try again in a moment"}
    assert (len(done), len(waiting)) == (4, 16)
    for one in waiting:
        one.cancel()
    await asyncio.wait(waiting)
