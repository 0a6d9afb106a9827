"""API keys, users and sessions for tests of who may do what."""

from typing import Any

from aiohttp.test_utils import TestClient

from api.access.key_store import KeyStore, Made, NewKey
from api.principal import Role
from core.ports import Database

PASSWORD = "correct horse battery staple"


async def make_key(db: Database, role: Role = "admin", **more: Any) -> Made:
    """Store a key of a role."""
    return await KeyStore(db).create(NewKey(name=f"test {role}", role=role, **more), created_by="test")


def bearer(key: str | Made) -> dict[str, str]:
    """Return the headers that carry a key."""
    return {"Authorization": f"Bearer {key if isinstance(key, str) else key.text}"}


async def log_in(client: TestClient[Any, Any], **credentials: str) -> dict[str, str]:
    """Log in, and return the headers that changes need; the client keeps the cookie."""
    response = await client.post("/v1/sessions", json=credentials)
    assert response.status == 201, await response.text()
    return {"X-CSRF-Token": (await response.json())["csrf_token"]}
