"""Every expression of the shipped dashboard, asked of a real Prometheus that scraped a fleet at work."""

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.services.local import LocalServers
from tests.builders.stage import Stage

DASHBOARD = Path(__file__).parents[3] / "deploy/grafana/dashboards/fleet.json"
VARIABLES: Mapping[str, str] = {"$region": ".*"}
SCRAPE_S = 1
QUIET = {"Cameras trouble", "Dropped or lost", "Rebalances"}
"""Panels that may be empty in a fleet where nothing went wrong."""


def expressions() -> list[tuple[str, str]]:
    """Return (panel, expression) of the dashboard, with its variables filled in as Grafana does."""
    found = []
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            found.append((panel["title"], expression))
    return found


def ask(base: str, expression: str) -> list[Any]:
    """Return what Prometheus answers to an instant query; an expression that it can't parse is an error."""
    query = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"{base}/api/v1/query?{query}", timeout=10) as answer:
        body = json.load(answer)
    assert body["status"] == "success", body
    found: list[Any] = body["data"]["result"]
    return found


@pytest.mark.timeout(300)
def test_every_expression_has_an_answer(stage: Stage, tmp_path: Path) -> None:
    stage.heal()
    ours = [f"127.0.0.1:{member.metrics_port}" for member in stage.fleet.members.values()]
    rabbit = f"127.0.0.1:{stage.servers.port('rabbitmq', 'metrics_port')}"
    config = {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "scrape_timeout": f"{SCRAPE_S}s"},
        "scrape_configs": [
            {"job_name": "sightline", "static_configs": [{"targets": ours}]},
            {"job_name": "rabbitmq", "metrics_path": "/metrics/per-object", "static_configs": [{"targets": [rabbit]}]},
        ],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    with LocalServers(tmp_path / "services", scrape=tmp_path / "prometheus.yml") as watching:
        watching.start("prometheus")
        base = f"http://127.0.0.1:{watching.port('prometheus')}"
        stage.play()
        time.sleep(2 * SCRAPE_S)
        assert ask(base, 'up{job="sightline"} == 1'), "no process was scraped"
        answers = [(title, expression, ask(base, expression)) for title, expression in expressions()]
    silent = [(title, expression) for title, expression, answer in answers if not answer and title not in QUIET]
    assert not silent, silent
    finite = [answer for _, _, found in answers for answer in found if answer["value"][1] not in ("NaN", "+Inf")]
    assert len(finite) > len(answers) / 2
