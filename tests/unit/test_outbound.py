"""Where clients may send the server: a table of hostile URLs, and those that must work."""

import ipaddress

import pytest

from core.errors import SettingsError, UnavailableError
from core.outbound import CAMERA_SCHEMES, WEB_SCHEMES, AddressRefusedError, Target, pin, refusal, resolve_public
from core.settings import OutboundSettings, load_settings

CAMERAS = OutboundSettings().camera_allow
HOSTILE = {
    "http://127.0.0.1/": "a loopback address",
    "http://127.1.2.3:8400/v1/subjects": "a loopback address",
    "http://localhost/": "a loopback address",
    "http://LocalHost:80/": "a loopback address",
    "http://[::1]/": "a loopback address",
    "http://[0:0:0:0:0:0:0:1]/": "a loopback address",
    "http://0.0.0.0/": "the unspecified address",
    "http://[::]/": "an IPv4 address inside an IPv6 one",
    "http://127.1/": "odd spelling",
    "http://2130706433/": "odd spelling",
    "http://0x7f000001/": "odd spelling",
    "http://0x7f.1/": "odd spelling",
    "http://0177.0.0.1/": "odd spelling",
    "http://127.0.0.1./": "odd spelling",
    "http://127.0.0.0x1/": "odd spelling",
    "http://[::ffff:127.0.0.1]/": "an IPv4 address inside an IPv6 one",
    "http://[::ffff:7f00:1]/": "an IPv4 address inside an IPv6 one",
    "http://[::127.0.0.1]/": "an IPv4 address inside an IPv6 one",
    "http://[64:ff9b::7f00:1]/": "a loopback address",
    "http://[64:ff9b::a9fe:a9fe]/": "a metadata address",
    "http://[2002:7f00:1::]/": "an IPv4 address inside an IPv6 one",
    "http://[2001:0:7f00:1::]/": "an IPv4 address inside an IPv6 one",
    "http://169.254.169.254/latest/meta-data/": "a metadata address",
    "http://169.254.1.1/": "a link-local address",
    "http://[fe80::1]/": "a link-local address",
    "http://[fe80::1%25eth0]/": "can't be read",
    "http://[fd00:ec2::254]/": "a metadata address",
    "http://100.100.100.200/": "a metadata address",
    "http://168.63.129.16/": "a metadata address",
    "http://100.64.0.1/": "a carrier's shared address",
    "http://10.0.0.1/": "a private address",
    "http://172.31.255.1/": "a private address",
    "http://192.168.1.1:22/": "a private address",
    "http://[fd12::1]/": "a private address",
    "http://[fec0::1]/": "a private address",
    "http://224.0.0.1/": "a multicast address",
    "http://[ff02::1]/": "a multicast address",
    "http://255.255.255.255/": "a reserved address",
    "http://198.18.0.1/": "a private address",
    "http://user:password@127.0.0.1/": "a loopback address",
    "http://8.8.8.8@127.0.0.1/": "a loopback address",
    "http://127.0.0.1\\@8.8.8.8/": "backslashes",
    "http://127.0.0.1\t.example/": "blanks",
    "http://\uff11\uff12\uff17.0.0.1/": "beyond ASCII",
    "http://127\u30020\u30020\u30021/": "beyond ASCII",
    "http://exa%6dple.com/": "no name of letters",
    "http://8.8.8.8:0/": "a port between",
    "http://8.8.8.8:99999/": "host or port can't be read",
    "http:///etc/passwd": "names no host",
    "http:8.8.8.8/": "must begin with one of http://, https://",
    "//8.8.8.8/": "must begin with one of http://, https://",
    "file:///etc/passwd": "must begin with one of http://, https://",
    "gopher://8.8.8.8/": "must begin with one of http://, https://",
    "/dev/video0": "must begin with one of http://, https://",
    "http://8.8.8.8/" + "a" * 2000: "more than 2000 characters",
}


@pytest.mark.parametrize("url", HOSTILE, ids=lambda url: url[:40])
async def test_hostile_urls_are_refused_with_the_reason(url: str) -> None:
    with pytest.raises(AddressRefusedError) as refused:
        await resolve_public(url)
    assert HOSTILE[url] in str(refused.value)
    assert "password" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://127.0.0.1/live",
        "rtsp://169.254.169.254/",
        "rtsp://[::1]/",
        "rtsp://0x7f.1/",
        "rtsp://100.64.0.1/",
        "file:///etc/passwd",
        "udp://@:5000",
        "rtp://239.0.0.1:5004",
        "srt://:9000?mode=listener",
        "v4l2:///dev/video0",
        "/etc/passwd",
        "concat:http://8.8.8.8/a|file:///etc/passwd",
        "rtsp+udp://8.8.8.8/",
        "data:image/png;base64,AAAA",
    ],
)
async def test_cameras_may_be_in_private_networks_but_nowhere_else_that_is_not_public(url: str) -> None:
    with pytest.raises(AddressRefusedError):
        await resolve_public(url, allow=CAMERAS, schemes=CAMERA_SCHEMES)
    private = await resolve_public("rtsp://user:p%40ss@192.168.1.20/live?x=1", allow=CAMERAS, schemes=CAMERA_SCHEMES)
    assert (private.address, private.port) == ("192.168.1.20", 554)


def resolved(url: str, *addresses: str, allow: tuple[str, ...] = ()) -> Target:
    return pin(url, allow=allow, schemes=WEB_SCHEMES | CAMERA_SCHEMES, lookup=lambda _host, _port: addresses)


def test_the_address_that_was_judged_is_the_one_to_connect_to() -> None:
    target = resolved("https://user:pw@Hooks.Example:8443/a@b?c=//d#e", "93.184.216.34", "2606:2800:220:1::1")
    assert (target.scheme, target.host, target.port, target.address) == ("https", "hooks.example", 8443, "93.184.216.34")
    assert target.pinned_url == "https://user:pw@93.184.216.34:8443/a@b?c=//d#e"
    assert target.authority == "hooks.example:8443"
    six = resolved("rtsp://cam.example", "2606:2800:220:1::1")
    assert (six.pinned_url, six.authority) == ("rtsp://[2606:2800:220:1::1]:554", "cam.example")


@pytest.mark.parametrize("addresses", [("93.184.216.34", "10.0.0.1"), ("::1",), ("fe80::1%eth0",), ("169.254.169.254",)])
def test_a_name_with_one_bad_address_is_refused(addresses: tuple[str, ...]) -> None:
    with pytest.raises(AddressRefusedError, match=r"^hooks\.example: leads to an? .*\(see the settings 'outbound'\)$"):
        resolved("https://hooks.example/", *addresses)


def test_what_operators_allow_is_allowed_and_metadata_only_by_its_exact_address() -> None:
    assert resolved("http://hooks.lan/", "127.0.0.1", allow=("Hooks.lan",)).address == "127.0.0.1"
    assert resolved("http://x.example/", "10.1.2.3", allow=("10.1.0.0/16",)).address == "10.1.2.3"
    with pytest.raises(AddressRefusedError, match="a private address"):
        resolved("http://x.example/", "10.2.0.1", allow=("10.1.0.0/16",))
    with pytest.raises(AddressRefusedError, match="a metadata address"):
        resolved("http://x.example/", "169.254.169.254", allow=("169.254.0.0/16",))
    assert resolved("http://x.example/", "169.254.169.254", allow=("169.254.169.254",)).address == "169.254.169.254"
    assert refusal(ipaddress.ip_address("8.8.8.8"), []) == ""


def test_a_name_that_does_not_resolve_is_unavailable() -> None:
    with pytest.raises(UnavailableError, match=r"^gone\.example: no such host"):
        resolved("https://gone.example/")


def test_settings_say_what_is_allowed_and_refuse_what_can_not_be_read() -> None:
    assert OutboundSettings().webhook_allow == ()
    assert "10.0.0.0/8" in OutboundSettings(allow_private_networks=True).webhook_allow
    assert "127.0.0.0/8" in OutboundSettings(allow_loopback_cameras=True, camera_networks=()).camera_allow
    with pytest.raises(SettingsError, match=r"outbound\.camera_networks: .*'cams' is not a network"):
        load_settings(outbound={"camera_networks": ["cams"]})
    with pytest.raises(SettingsError, match=r"outbound\.allowed_hosts: .*'a b' is not a host name, address or network"):
        load_settings(outbound={"allowed_hosts": ["a b"]})
