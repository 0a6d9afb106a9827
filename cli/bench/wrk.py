"""wrk, the load generator of the field, beside our own: another's client, in C, that takes next to nothing of the server's cores.

It is a Debian package (``apt install wrk``) and no part of Sightline: where it is missing its figures are left out, and the report says so.
"""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import SightlineError

PROGRAM = "wrk"
TOKEN_VARIABLE = "SIGHTLINE_BENCH_TOKEN"
"""Where the token is: no list of processes shows it."""
MARK = "@number-of-this@"
"""In a body: replaced by 16 digits, another number in each request, so that no cache knows it."""
OVER_S = 30.0  # beyond the measured time: wrk reads its bodies first, and waits for the last answers

# the environments of a wrk thread and of done() are apart: what a thread counted is fetched from it by name
_SCRIPT = """
local threads, bodies, sent = {}, {}, 0
function setup(thread) table.insert(threads, thread) end
function init(args)
  count, unexpected = 0, 0
  while true do
    local file = io.open(args[1] .. "/" .. count, "rb")
    if not file then break end
    local body = file:read("*a")
    file:close()
    local first, last = body:find("%s", 1, true)
    bodies[count] = first and {body:sub(1, first - 1), body:sub(last + 1)} or body
    count = count + 1
  end
  wrk.method = "POST"
  wrk.headers["Content-Type"] = args[2]
  wrk.headers["Authorization"] = "Bearer " .. os.getenv("%s")
end
function request()
  sent = sent + 1
  local body = bodies[sent %% count]
  if type(body) == "table" then body = string.format("%%s%%016d%%s", body[1], sent, body[2]) end
  return wrk.format(nil, nil, nil, body)
end
function response(status) if status ~= 200 then unexpected = unexpected + 1 end end
function done(summary, latency)
  local bad = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  for _, thread in ipairs(threads) do bad = bad + thread:get("unexpected") end
  print(string.format('{"requests":%%d,"seconds":%%.3f,"bad":%%d,"p50":%%.3f,"p95":%%.3f,"p99":%%.3f}', summary.requests,
    summary.duration / 1e6, bad, latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3))
end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """What wrk measured."""

    per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


def installed() -> bool:
    """Return whether wrk is there."""
    return shutil.which(PROGRAM) is not None


async def generate(url: str, bodies: Sequence[bytes], *, content_type: str, token: str, clients: int, seconds: float) -> Generated:
    """POST the bodies in turn, over so many connections that each wait for their answers, from one thread.

    Raises:
        SightlineError: wrk did not run, or an answer was not 200.
    """
    with tempfile.TemporaryDirectory(prefix="sightline-wrk-") as folder:
        here = Path(folder)
        for number, body in enumerate(bodies):
            (here / str(number)).write_bytes(body)
        script = here / "post.lua"
        script.write_text(_SCRIPT % (MARK, TOKEN_VARIABLE))
        arguments = ("-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "-s", str(script), url, "--", folder, content_type)
        child = await asyncio.create_subprocess_exec(
            PROGRAM, *arguments, env=os.environ | {TOKEN_VARIABLE: token}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(seconds + OVER_S):
                out, err = await child.communicate()
        finally:
            if child.returncode is None:
                child.kill()
    return read_report(out.decode(errors="replace"), err.decode(errors="replace"))


def read_report(out: str, err: str) -> Generated:
    """Return what the script printed last. Raises SightlineError: it printed nothing, or an answer was not 200."""
    lines = [line for line in out.splitlines() if line.startswith("{")]
    if not lines:
        raise SightlineError(f"{PROGRAM} printed no figures: {(err or out).strip()[-300:]}")
    report = json.loads(lines[-1])
    if report["bad"] or not report["requests"]:
        raise SightlineError(f"{PROGRAM}: {report['bad']} of {report['requests']} requests were not answered by 200")
    return Generated(per_second=report["requests"] / report["seconds"], p50_ms=report["p50"], p95_ms=report["p95"], p99_ms=report["p99"])
