"""What the server connects to because a client said so: camera and webhook URLs. One guard for all of them.

A client that may name a URL must not reach what only this machine or its network can reach (server-side request forgery). The host is
resolved once, every address of the answer is judged, and the caller connects to the address that was judged: a name that answers
otherwise the second time (DNS rebinding) wins nothing. Callers follow no redirects, or judge each anew.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final
from urllib.parse import urlsplit

from core.errors import UnavailableError, UsageError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL_CHARS: Final = 2000
RESOLVE_S: Final = 5.0
PORTS: Final = {
    "http": 80,
    "https": 443,
    "rtsp": 554,
    "rtsp+tcp": 554,
    "rtsps": 322,
    "rtmp": 1935,
    "rtmps": 443,
    "mqtt": 1883,
    "mqtts": 8883,
}
WEB_SCHEMES: Final = frozenset(("http", "https"))
CAMERA_SCHEMES: Final = frozenset(("rtsp", "rtsps", "rtsp+tcp", "http", "https", "rtmp", "rtmps"))
"""Of cameras that come over the API. What listens here (udp, rtp, srt), files and devices are for who sits at the machine."""
PRIVATE_NETWORKS: Final = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
LOOPBACK_NETWORKS: Final = ("127.0.0.0/8", "::1/128")

METADATA: Final = frozenset(
    map(
        ipaddress.ip_address,
        (
            "169.254.169.254",  # AWS, Google, Azure, Oracle, DigitalOcean and more
            "169.254.170.2",  # AWS containers
            "169.254.170.23",
            "fd00:ec2::254",  # AWS over IPv6
            "fd00:ec2::23",
            "fd20:ce::254",  # Google over IPv6
            "100.100.100.200",  # Alibaba
            "192.0.0.192",  # Oracle, classic
            "168.63.129.16",  # Azure's host: a public address that only machines there reach
        ),
    )
)
"""Servers that hand a cloud machine's credentials to whoever asks from inside: allowed by their exact address only."""

HOST_NAME: Final = re.compile(r"(?=.{1,253}\.?$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?")
_NUMBER = re.compile(r"(0[xX][0-9A-Fa-f]*|[0-9]+)")
_TRANSLATED: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
_EMBEDDING: Final = tuple(
    map(ipaddress.IPv6Network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))
)
"""IPv6 that stands for an IPv4 address: compatible, mapped, translated, locally translated, 6to4, Teredo."""

Lookup = Callable[[str, int], Sequence[str]]
"""Returns the addresses of a host name. Raises OSError."""


class AddressRefusedError(UsageError):
    """A URL leads where clients may not send this server."""

    code: ClassVar[str] = "address_refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to connect. Built by :func:`resolve_public` and :func:`pin` only."""

    url: str
    """As it was given, credentials included: not for logs."""
    scheme: str
    host: str
    """As it was given, in lower case: for the Host header, and the name that a certificate must have."""
    port: int
    address: str
    """The address to connect to."""
    addresses: tuple[str, ...]
    """All that the name has; each was judged."""

    @property
    def authority(self) -> str:
        """Return the value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS.get(self.scheme) else f"{host}:{self.port}"

    @property
    def pinned_url(self) -> str:
        """Return the URL with the address instead of the name: whoever opens it resolves nothing again.

        Over TLS give ``host`` as the server's name; over HTTP send ``authority`` as the Host header.
        """
        rest = self.url.partition("://")[2]
        place = re.search(r"[/?#]|$", rest)
        end = place.start() if place else len(rest)
        credentials, at, _ = rest[:end].rpartition("@")
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.scheme}://{credentials}{at}{address}:{self.port}{rest[end:]}"


async def resolve_public(url: str, *, allow: Sequence[str] = (), schemes: Collection[str] = WEB_SCHEMES) -> Target:
    """Say where a URL of a client leads, or refuse it.

    Args:
        url: as the client gave it.
        allow: what may be reached beside the public internet: networks (``10.0.0.0/8``), addresses, and host names, which then may have
            any address. See ``OutboundSettings.webhook_allow`` and ``camera_allow``.
        schemes: that may be used.

    Raises:
        AddressRefusedError: it leads to this machine, a private network, a metadata server; or it is spelt so that programs differ about
            where it leads.
        UnavailableError: the name does not resolve.
    """
    scheme, host, port = parse_url(url, schemes=schemes)
    try:
        async with asyncio.timeout(RESOLVE_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError as err:
        raise UnavailableError(f"{host}: the name server does not answer within {RESOLVE_S:.0f} s") from err
    except (OSError, UnicodeError) as err:
        raise _unresolved(host) from err
    return _judged(url, (scheme, host, port), [str(one[4][0]) for one in found], allow)


async def require_public(url: str, *, allow: Sequence[str] = (), schemes: Collection[str] = WEB_SCHEMES) -> None:
    """Refuse a URL that is to be kept as :func:`resolve_public` would; a name that is not known yet is judged when it is used.

    Raises:
        AddressRefusedError: as there.
    """
    try:
        await resolve_public(url, allow=allow, schemes=schemes)
    except UnavailableError:
        return


def pin(url: str, *, allow: Sequence[str], schemes: Collection[str], lookup: Lookup | None = None) -> Target:
    """Do the same as :func:`resolve_public`, in a thread: for those that open streams there. Blocks.

    Raises:
        AddressRefusedError, UnavailableError: as there.
    """
    scheme, host, port = parse_url(url, schemes=schemes)
    try:
        found = (lookup or _system_lookup)(host, port)
    except (OSError, UnicodeError) as err:
        raise _unresolved(host) from err
    return _judged(url, (scheme, host, port), found, allow)


def parse_url(url: str, *, schemes: Collection[str]) -> tuple[str, str, int]:
    """Return (scheme, host, port) of a URL that all programs read alike.

    Raises:
        AddressRefusedError: any other; the text does not repeat the URL, which may hold a password.
    """
    if len(url) > MAX_URL_CHARS:
        raise AddressRefusedError(f"the URL has more than {MAX_URL_CHARS} characters")
    if any(not "!" <= character <= "~" or character == "\\" for character in url):
        raise AddressRefusedError("the URL holds blanks, backslashes or characters beyond ASCII; write them percent-encoded")
    scheme, separator, _ = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in schemes:
        raise AddressRefusedError(f"the URL must begin with one of {', '.join(sorted(f'{one}://' for one in schemes))}")
    try:
        parts = urlsplit("x" + url[len(scheme) :])
        host, port = (parts.hostname or ""), parts.port
    except ValueError as err:
        raise AddressRefusedError("the URL's host or port can't be read") from err
    if port == 0 or (port is None and scheme not in PORTS):
        raise AddressRefusedError("the URL needs a port between 1 and 65535")
    return scheme, _checked_host(host), port or PORTS[scheme]


def refusal(address: Address, allow: Sequence[Network]) -> str:
    """Say in a few words why an address may not be reached; empty when it may. Pure."""
    if address in METADATA and not any(network.num_addresses == 1 and address in network for network in allow):
        return "a metadata address"
    if any(address.version == network.version and address in network for network in allow):
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _TRANSLATED:
            return refusal(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF), allow)
        if address.is_loopback:
            return "a loopback address"
        if any(address in network for network in _EMBEDDING):
            return "an IPv4 address inside an IPv6 one"
        if address.is_site_local:
            return "a private address"
    for is_so, name in (
        (address.is_loopback, "a loopback address"),
        (address.is_unspecified, "the unspecified address"),
        (address.is_multicast, "a multicast address"),
        (address.is_link_local, "a link-local address"),
        (address in ipaddress.IPv4Network("100.64.0.0/10"), "a carrier's shared address"),
        (address.is_reserved, "a reserved address"),
        (not address.is_global, "a private address"),
    ):
        if is_so:
            return name
    return ""


def networks_of(allow: Sequence[str]) -> list[Network]:
    """Return the entries that are networks or addresses; the others are host names. Pure."""
    found: list[Network] = []
    for entry in allow:
        try:
            found.append(ipaddress.ip_network(entry))
        except ValueError:
            continue
    return found


def _judged(url: str, place: tuple[str, str, int], found: Sequence[str], allow: Sequence[str]) -> Target:
    scheme, host, port = place
    if not found:
        raise _unresolved(host)
    trusted = host in {entry.lower() for entry in allow}
    networks = networks_of(allow)
    for text in found:
        why = "" if trusted else refusal(ipaddress.ip_address(text.partition("%")[0]), networks)
        if why:
            raise AddressRefusedError(f"{host}: leads to {why}, where clients may not send this server (see the settings 'outbound')")
    return Target(url=url, scheme=scheme, host=host, port=port, address=found[0], addresses=tuple(dict.fromkeys(found)))


def _checked_host(host: str) -> str:
    """Return a host name, or an address in its one usual spelling."""
    if not host:
        raise AddressRefusedError("the URL names no host")
    if ":" in host:
        try:
            return str(ipaddress.IPv6Address(host.replace("%", "!")))  # refuses zones ('%eth0') too
        except ValueError as err:
            raise AddressRefusedError("the URL's IPv6 address can't be read") from err
    if not HOST_NAME.fullmatch(host):
        raise AddressRefusedError("the URL's host is no name of letters, digits, dots and dashes; write other names in punycode (xn--...)")
    if _NUMBER.fullmatch(host.rstrip(".").rsplit(".", 1)[-1]):  # what ends in a number is read as an address, by some programs oddly
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError as err:
            raise AddressRefusedError("the URL's host looks like an IPv4 address in an odd spelling; write it as 192.0.2.1") from err
    return host


def _system_lookup(host: str, port: int) -> Sequence[str]:
    return [str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _unresolved(host: str) -> UnavailableError:
    return UnavailableError(f"{host}: no such host; check the name in the URL")
