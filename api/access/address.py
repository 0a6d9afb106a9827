"""From where a request comes, also through proxies that are trusted to say so. Pure, but for aiohttp's request type."""

import ipaddress
from collections.abc import Sequence

from aiohttp import web

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_IPV6_SITE = 64  # one household or host has at least so many addresses


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Read ``api.trusted_proxies``."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def client_address(request: web.Request, trusted: Sequence[Network]) -> str:
    """Return the address that asks: the connection's, or, if that is a trusted proxy, the last one that it did not make up itself."""
    address = _peer(request)
    if not _is_trusted(address, trusted):
        return address
    for hop in reversed(",".join(request.headers.getall("X-Forwarded-For", ())).split(",")):  # some proxies add a line of their own
        hop = hop.strip()
        if not _is_address(hop):
            return address
        if not _is_trusted(hop, trusted):
            return hop
        address = hop
    return address


def is_https(request: web.Request, trusted: Sequence[Network]) -> bool:
    """Tell whether the client speaks HTTPS: to us, or to a trusted proxy that says so."""
    if request.secure:
        return True
    return _is_trusted(_peer(request), trusted) and request.headers.get("X-Forwarded-Proto", "").strip().lower() == "https"


def bucket_of(address: str) -> str:
    """Return whom an address stands for: itself, or its /64 of IPv6, for whoever has one address of it has them all."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 6:
        return str(ipaddress.ip_network((int(parsed) >> _IPV6_SITE << _IPV6_SITE, _IPV6_SITE)))
    return address


def _peer(request: web.Request) -> str:
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    return str(peer[0]) if isinstance(peer, tuple) and peer else ""


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    if not trusted or not _is_address(address):
        return False
    parsed = ipaddress.ip_address(address)
    return any(parsed.version == network.version and parsed in network for network in trusted)
