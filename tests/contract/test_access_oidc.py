"""Bearer tokens of an identity provider: good ones give a role and grants; forged, foreign and outdated ones nothing."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest

from api.access.oidc import LEEWAY_S, REFRESH_S, Tokens
from api.errors import UnauthorizedError
from core.errors import UnavailableError
from core.settings import OidcSettings
from tests.builders.provider import AUDIENCE, Provider, open_provider


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with open_provider() as running:
        yield running


def settings(provider: Provider, **more: Any) -> OidcSettings:
    roles = {"guards": "operator", "chiefs": "admin"}
    return OidcSettings(issuer=provider.issuer, audience=AUDIENCE, roles=roles, collections_claim="galleries", **more)  # type: ignore[arg-type]


@pytest.fixture
def tokens(provider: Provider) -> Tokens:
    return Tokens(settings(provider))


async def test_a_good_token_gives_a_role_and_grants(tokens: Tokens, provider: Provider) -> None:
    who = await tokens.principal(provider.token(email="ada@example.org", galleries=["staff"]))
    assert (who.actor, who.name, who.role, who.collections) == ("oidc:ada", "ada@example.org", "operator", frozenset(("staff",)))
    assert (await tokens.principal(provider.token(roles="guards chiefs"))).role == "admin"
    assert (await tokens.principal(provider.token(aud=["other", AUDIENCE]))).collections == frozenset()  # no claim: nothing is granted
    assert provider.asked == 1


async def refused(tokens: Tokens, token: str) -> str:
    with pytest.raises(UnauthorizedError) as caught:
        await tokens.principal(token)
    return str(caught.value)


async def test_tokens_that_are_not_for_us_or_not_now_are_refused(tokens: Tokens, provider: Provider) -> None:
    now_s = int(time.time())
    assert "another audience" in await refused(tokens, provider.token(aud="other"))
    assert "another issuer" in await refused(tokens, provider.token(iss="https://evil.example"))
    assert "has expired" in await refused(tokens, provider.token(exp=now_s - LEEWAY_S - 5))
    assert "not valid yet" in await refused(tokens, provider.token(nbf=now_s + LEEWAY_S + 60))
    assert "not valid yet" in await refused(tokens, provider.token(iat=now_s + LEEWAY_S + 60))
    for claim in ("exp", "iss", "aud", "sub"):
        assert "not good" in await refused(tokens, provider.token(drop=claim))
    assert "gives no role here" in await refused(tokens, provider.token(roles=["cooks"]))
    assert "gives no role here" in await refused(tokens, provider.token(roles={"guards": True}))
    assert (await tokens.principal(provider.token(exp=now_s - LEEWAY_S + 10))).role == "operator"


def part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


async def test_forged_tokens_are_refused(tokens: Tokens, provider: Provider) -> None:
    good = provider.token()
    body = jwt.decode(good, options={"verify_signature": False})
    for alg in ("none", "None", "NONE", "nOnE"):
        unsigned = f"{part({'alg': alg, 'typ': 'JWT', 'kid': 'rsa-1'})}.{part(body)}."
        assert "its algorithm is none of RS256, ES256, EdDSA" in await refused(tokens, unsigned)
    for key_id, secret in (("rsa-1", provider.public_pem()), ("shared", b"secret-secret-secret-secret-secret")):
        signed = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': key_id})}.{part(body)}"
        signature = base64.urlsafe_b64encode(hmac.digest(secret, signed.encode(), hashlib.sha256)).rstrip(b"=").decode()
        assert "its algorithm is none of" in await refused(tokens, f"{signed}.{signature}")
    head, _, signature = good.split(".")
    assert "its signature is wrong" in await refused(tokens, f"{head}.{part(body | {'roles': ['chiefs']})}.{signature}")
    other = Provider(issuer=provider.issuer)
    assert "its signature is wrong" in await refused(tokens, other.token())
    assert "does not list" in await refused(tokens, provider.token(header={"kid": "../../etc/passwd"}))
    assert "critical headers" in await refused(tokens, provider.token(header={"crit": ["b64"], "b64": False}))
    own = {"jku": "https://evil.example/keys", "jwk": {"kty": "oct", "k": "AA"}, "x5u": "https://evil.example/x"}
    assert "its signature is wrong" in await refused(tokens, other.token(header=own))  # keys that a token brings along are not looked at
    for text in ("", "..", "a.b.c", "x" * 20_000, good + "x"):
        assert "token" in await refused(tokens, text)


async def test_a_key_that_is_new_is_fetched_but_not_for_every_stranger_s_token(provider: Provider) -> None:
    now_s = 1000.0
    tokens = Tokens(settings(provider), clock=lambda: now_s)
    await tokens.principal(provider.token())
    provider.add_ec("ec-2")
    for _ in range(50):
        assert "does not list" in await refused(tokens, provider.token(key_id="ec-2"))
    assert provider.asked == 1
    now_s += REFRESH_S
    assert (await tokens.principal(provider.token(key_id="ec-2"))).role == "operator"
    assert provider.asked == 2


async def test_of_many_first_tokens_at_once_one_fetches_the_keys_and_all_are_good(tokens: Tokens, provider: Provider) -> None:
    found = await asyncio.gather(*(tokens.principal(provider.token()) for _ in range(5)))
    assert ([who.role for who in found], provider.asked) == (["operator"] * 5, 1)


async def test_a_key_that_the_provider_takes_back_is_of_no_use_after_an_hour(provider: Provider) -> None:
    now_s = 1000.0
    tokens = Tokens(settings(provider), clock=lambda: now_s)
    provider.add_ec("ec-2")
    stolen = provider.token(exp=int(time.time()) + 9000)
    await tokens.principal(stolen)
    del provider.keys["rsa-1"]
    now_s += 3601
    assert "does not list" in await refused(tokens, stolen)


async def test_a_provider_that_is_away_is_no_reason_to_believe_anybody(provider: Provider) -> None:
    now_s = 1000.0
    provider.away = True
    tokens = Tokens(settings(provider), clock=lambda: now_s)
    for _ in range(2):  # also while it is not asked again: nobody knows yet whether the token is good
        with pytest.raises(UnavailableError, match="can't be read at the moment"):
            await tokens.principal(provider.token())
    provider.away, now_s = False, now_s + REFRESH_S
    await tokens.principal(provider.token())
    provider.away, now_s = True, now_s + 3601  # for a while what is known is good enough
    await tokens.principal(provider.token())
    now_s += 3600
    with pytest.raises(UnavailableError):
        await tokens.principal(provider.token())


async def test_tokens_are_taken_by_the_api_beside_keys(db: Any, provider: Provider, aiohttp_client: Any) -> None:
    from dataclasses import replace

    from api.access.authenticator import Authenticator
    from api.app import build_app
    from tests.builders.access import bearer
    from tests.builders.api import services

    behind = services(db)
    with_provider = behind.settings.model_copy(update={"oidc": settings(provider)})
    client = await aiohttp_client(build_app(replace(behind, access=Authenticator(db, with_provider, behind.metrics))))
    assert (await client.get("/v1/sightings", headers=bearer(provider.token()))).status == 200
    assert (await client.get("/v1/keys", headers=bearer(provider.token()))).status == 403
    bad = await client.get("/v1/sightings", headers=bearer(provider.token(aud="other")))
    assert (bad.status, bad.headers["WWW-Authenticate"]) == (401, 'Bearer realm="sightline"')
    assert (await client.post("/v1/sessions", json={"key": provider.token()[:500]})).status == 401
    without = await aiohttp_client(build_app(services(db)))
    assert (await without.get("/v1/sightings", headers=bearer(provider.token()))).status == 401
