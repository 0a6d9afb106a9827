"""An OpenID Connect provider small enough to see through: keys, discovery, and tokens good and bad."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

AUDIENCE = "sightline-api"


@dataclass
class Provider:
    """Its keys by id, and how often it was asked for them."""

    keys: dict[str, Any] = field(default_factory=lambda: {"rsa-1": rsa.generate_private_key(65537, 2048)})
    issuer: str = ""
    asked: int = 0
    away: bool = False

    def add_ec(self, key_id: str) -> None:
        """Rotate: a key more."""
        self.keys[key_id] = ec.generate_private_key(ec.SECP256R1())

    def token(self, *, key_id: str = "rsa-1", header: dict[str, Any] | None = None, drop: str = "", **claims: Any) -> str:
        """Return a token that is good unless claims say otherwise."""
        now_s = int(time.time())
        body: dict[str, Any] = {"iss": self.issuer, "aud": AUDIENCE, "sub": "ada", "iat": now_s, "exp": now_s + 300, "roles": ["guards"]}
        body |= claims
        body.pop(drop, None)
        key = self.keys[key_id]
        algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
        return jwt.encode(body, key, algorithm=algorithm, headers={"kid": key_id} | (header or {}))

    def public_pem(self, key_id: str = "rsa-1") -> bytes:
        """Return a public key, as anybody can have it."""
        return self.keys[key_id].public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    async def jwks(self, _request: web.Request) -> web.Response:
        """Answer with the public keys, and with a symmetric one that must never be used."""
        self.asked += 1
        if self.away:
            return web.Response(status=503)
        listed = [{"kty": "oct", "kid": "shared", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "alg": "HS256"}]
        for key_id, key in self.keys.items():
            made = (RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm).to_jwk(key.public_key(), as_dict=True)
            listed.append(made | {"kid": key_id, "use": "sig"})
        return web.json_response({"keys": listed})

    async def discovery(self, _request: web.Request) -> web.Response:
        """Answer with where the keys are."""
        return web.json_response({"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"})


@asynccontextmanager
async def open_provider() -> AsyncIterator[Provider]:
    """Run a provider on this machine."""
    provider = Provider()
    app = web.Application()
    app.add_routes([web.get("/keys", provider.jwks), web.get("/.well-known/openid-configuration", provider.discovery)])
    async with TestServer(app) as server:
        provider.issuer = f"http://127.0.0.1:{server.port}"
        yield provider
