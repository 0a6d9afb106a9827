"""Token buckets, addresses and the short memory: pure parts of who may ask how often."""

import asyncio
from ipaddress import ip_network

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from api.access.address import bucket_of, client_address, is_https, networks
from api.access.key_text import KeyText, csrf_token, key_text, new_public_id, new_secret, sha256
from api.access.limits import Buckets
from api.access.memory import ShortMemory
from core.errors import SettingsError
from core.settings import load_settings


def test_a_bucket_empties_and_fills_at_its_rate() -> None:
    buckets = Buckets()
    verdicts = [buckets.take("a", per_s=2.0, burst=3, now_s=10.0) for _ in range(4)]
    assert [one.allowed for one in verdicts] == [True, True, True, False]
    assert [one.left for one in verdicts] == [2, 1, 0, 0]
    assert verdicts[-1].retry_s == pytest.approx(0.5)
    assert verdicts[-1].full_s == pytest.approx(1.5)
    assert buckets.take("b", per_s=2.0, burst=3, now_s=10.0).allowed  # others are not concerned
    assert buckets.take("a", per_s=2.0, burst=3, now_s=10.5).allowed
    assert not buckets.take("a", per_s=2.0, burst=3, now_s=10.5).allowed
    assert buckets.take("a", per_s=2.0, burst=3, now_s=1000.0).left == 2  # never more than a full bucket
    assert buckets.take("a", per_s=2.0, burst=3, now_s=5.0).left == 1  # a clock that goes back gives nothing


def test_looking_takes_nothing_and_remembers_nobody() -> None:
    buckets = Buckets()
    assert buckets.take("a", per_s=1.0, burst=1, now_s=0.0, cost=0).allowed
    assert len(buckets) == 0
    buckets.take("a", per_s=1.0, burst=1, now_s=0.0)
    assert not buckets.take("a", per_s=1.0, burst=1, now_s=0.0, cost=0).allowed


def test_the_memory_of_buckets_is_bounded_and_the_longest_unused_goes() -> None:
    buckets = Buckets(most=2)
    for name in ("a", "b", "a", "c"):
        buckets.take(name, per_s=0.001, burst=2, now_s=0.0)
    assert len(buckets) == 2
    assert not buckets.take("a", per_s=0.001, burst=2, now_s=0.0).allowed
    assert buckets.take("b", per_s=0.001, burst=2, now_s=0.0).left == 1


def test_keys_are_read_strictly() -> None:
    secret, public_id = new_secret(), new_public_id()
    text = key_text(public_id, secret)
    assert (len(text), KeyText.parse(text)) == (59, KeyText(public_id, sha256(secret)))
    for wrong in (text[:-1], text + "A", text.replace("sl_", "SL_"), "", "sl__", text + "\n", text.replace(public_id, "../../etc/pa")):
        assert KeyText.parse(wrong) is None
    assert csrf_token("a") != csrf_token("b")
    sha256("\udcff")  # what a header may hold


def test_an_ipv6_site_is_one_address() -> None:
    assert bucket_of("2001:db8:1:2:3:4:5:6") == bucket_of("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert bucket_of("192.0.2.7") == "192.0.2.7"
    assert bucket_of("") == ""


class Peer:
    """A transport of some address."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get_extra_info(self, name: str, default: object = None) -> object:
        return (self.address, 1234) if name == "peername" else default


def asked(peer: str, **headers: str) -> tuple[str, bool]:
    trusted = networks(("10.0.0.0/8", "::1"))
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    request = make_mocked_request("GET", "/", headers=given, transport=Peer(peer))
    return client_address(request, trusted), is_https(request, trusted)


def test_only_trusted_proxies_are_believed_about_who_asks() -> None:
    assert asked("192.0.2.1", X_Forwarded_For="198.51.100.7", X_Forwarded_Proto="https") == ("192.0.2.1", False)
    assert asked("10.0.0.5", X_Forwarded_For="203.0.113.9, 198.51.100.7", X_Forwarded_Proto="https") == ("198.51.100.7", True)
    assert asked("10.0.0.5", X_Forwarded_For="198.51.100.7, 10.1.1.1") == ("198.51.100.7", False)
    assert asked("::1", X_Forwarded_For="nonsense") == ("::1", False)
    assert asked("10.0.0.5") == ("10.0.0.5", False)
    assert networks(("10.0.0.5",)) == (ip_network("10.0.0.5"),)


def test_what_a_client_says_of_itself_in_a_line_before_the_proxy_s_own_is_not_believed() -> None:
    headers = CIMultiDict([("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-For", "198.51.100.7")])
    request = make_mocked_request("GET", "/", headers=headers, transport=Peer("10.0.0.5"))
    assert client_address(request, networks(("10.0.0.0/8",))) == "198.51.100.7"


async def test_of_many_who_ask_at_once_one_reads() -> None:
    reads: list[str] = []
    go = asyncio.Event()

    async def read(key: str) -> int:
        reads.append(key)
        await go.wait()
        return len(reads)

    now_s = 0.0
    memory = ShortMemory(read, keep_s=1.0, most=2, clock=lambda: now_s)
    asking = [asyncio.create_task(memory.get("a")) for _ in range(5)]
    await asyncio.sleep(0)
    go.set()
    assert await asyncio.gather(*asking) == [1] * 5
    now_s = 1.0
    assert memory.known("a") is None
    assert await memory.get("a") == 2
    memory.forget()
    assert await memory.get("a") == 3
    await memory.get("b")
    await memory.get("c")
    assert memory.known("a") is None  # the longest unused went


async def test_what_was_being_read_when_something_changed_is_not_kept() -> None:
    go = asyncio.Event()

    async def read(_key: str) -> str:
        await go.wait()
        return "before the change"

    memory = ShortMemory(read, keep_s=10.0, most=10)
    asking = asyncio.create_task(memory.get("a"))
    await asyncio.sleep(0)
    memory.forget()
    go.set()
    assert await asking == "before the change"
    assert memory.known("a") is None


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"oidc": {"issuer": "https://id.example"}}, "audience: is needed with issuer"),
        ({"oidc": {"issuer": "https://id.example", "audience": "a"}}, "roles: is needed with issuer"),
        ({"oidc": {"issuer": "http://id.example", "audience": "a", "roles": {"x": "admin"}}}, "oidc.issuer"),
        ({"oidc": {"issuer": "https://id.example", "audience": "a", "roles": {"x": "king"}}}, "oidc.roles.x"),
        ({"oidc": {"algorithms": ["HS256"]}}, "oidc.algorithms"),
        ({"oidc": {"algorithms": ["none"]}}, "oidc.algorithms"),
        ({"api": {"trusted_proxies": ["everybody"]}}, "'everybody' is no address or network"),
        ({"api": {"cors_origins": ["*"]}}, "api.cors_origins"),
        ({"api": {"cors_origins": ["https://app.example/path"]}}, "api.cors_origins"),
    ],
)
def test_settings_that_would_let_strangers_in_are_refused(given: dict[str, object], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem.replace(".", r"\.")):
        load_settings(**given)
