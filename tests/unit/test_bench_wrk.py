"""wrk as the load generator: its own answers where it is installed, its report everywhere."""

import os
import shutil

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from cli.bench.wrk import MARK, generate, read_report
from core.errors import SightlineError


def test_its_report_becomes_figures() -> None:
    out = 'Running 1s test\n{"requests":40,"seconds":2.000,"bad":0,"p50":1.500,"p95":2.500,"p99":9.000}\n'
    got = read_report(out, "")
    assert (got.per_second, got.p50_ms, got.p95_ms, got.p99_ms) == (20.0, 1.5, 2.5, 9.0)


@pytest.mark.parametrize(
    ("out", "err", "said"),
    [
        ("", "unable to connect to 127.0.0.1:1 Connection refused\n", "Connection refused"),
        ('{"requests":40,"seconds":2.0,"bad":3,"p50":1,"p95":2,"p99":9}', "", "3 of 40"),
        ('{"requests":0,"seconds":2.0,"bad":0,"p50":0,"p95":0,"p99":0}', "", "0 of 0"),
    ],
)
def test_what_did_not_go_well_is_no_figure(out: str, err: str, said: str) -> None:
    with pytest.raises(SightlineError, match=said):
        read_report(out, err)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed: apt install wrk")
async def test_it_sends_bodies_in_turn_each_with_a_number_of_its_own() -> None:
    got: list[tuple[str, str, bytes]] = []

    async def take(request: web.Request) -> web.Response:
        got.append((request.headers["Authorization"], request.headers["Content-Type"], await request.read()))
        return web.Response()

    app = web.Application()
    app.router.add_post("/there", take)
    async with TestServer(app) as server:
        photo = os.urandom(99).replace(b"%", b"-") + MARK.encode() + b"\x00\xff%s"
        figures = await generate(str(server.make_url("/there")), [photo, b"plain"], content_type="a/b", token="t0", clients=2, seconds=1)
    assert figures.per_second > 0
    assert {(token, kind) for token, kind, _ in got} == {("Bearer t0", "a/b")}
    numbered = [body for _, _, body in got if body != b"plain"]
    assert abs(len(numbered) - len(got) / 2) <= 2
    assert len(set(numbered)) == len(numbered)
    for body in numbered:
        assert body[:99] + MARK.encode() + body[115:] == photo
        assert int(body[99:115]) > 0
