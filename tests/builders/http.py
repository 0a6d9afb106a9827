"""What a server answered."""

from typing import Any

from aiohttp import ClientResponse


async def ok(response: ClientResponse, status: int = 200) -> Any:
    """Check the status and return the body."""
    assert response.status == status, await response.text()
    return await response.json()


async def refused(response: ClientResponse, status: int) -> dict[str, Any]:
    """Check the status and return the error of the envelope."""
    return dict((await ok(response, status))["error"])


async def reason_of(response: ClientResponse, status: int) -> str:
    """Check the status and return what people are told."""
    return str((await refused(response, status))["message"])
