"""What the API answers is what its document says: schemathesis, all checks, against the platform as a user starts it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.running import TOKEN, running

ROOT = Path(__file__).parents[2]
LEAST_CASES = 5000
STREAMS = ("/v1/events", "/v1/events/ws")  # never end: tests/contract/test_live_events.py


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    with running(tmp_path / "data", SIGHTLINE_API__ANONYMOUS_PER_MINUTE="1000000") as url:
        excluded = [part for path in STREAMS for part in ("--exclude-path", path)]
        command = [
            *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(ROOT / "tests" / "schemathesis.toml")),
            *("run", f"{url}/openapi.json", "--header", f"Authorization: Bearer {TOKEN}", "--checks", "all", "--seed", "1"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "2", "--request-timeout", "30", *excluded),
        ]
        found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=880, check=False)
    assert found.returncode == 0, found.stdout[-20_000:] + found.stderr[-2000:]
    cases = re.search(r"(\d+) generated", found.stdout)
    assert cases is not None
    assert int(cases[1]) >= LEAST_CASES
