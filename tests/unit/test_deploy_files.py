"""What ships in deploy/: valid by its own rules, and in step with the commands and settings of this release."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from cli.main import COMMANDS
from core.metrics import Metrics
from core.settings import load_settings

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yml").read_text())
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/fleet.json").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if "dockerfile" in str(service.get("build"))}


def test_compose_follows_its_specification() -> None:
    tool = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [tool, "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_recipe_passes_hadolint() -> None:
    tool = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([tool, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(OURS))
def test_each_process_runs_a_command_of_ours(name: str) -> None:
    assert OURS[name]["command"][0] in COMMANDS


@pytest.mark.parametrize("name", sorted(OURS))
def test_each_process_gets_settings_that_exist(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for key, value in OURS[name]["environment"].items():
        if key != "SIGHTLINE_SECRETS_DIR":
            monkeypatch.setenv(key, value.partition(":-")[2].removesuffix("}") if value.startswith("${") else value)
    settings = load_settings(data_dir=tmp_path)
    assert settings.log_url == "kafka://kafka:9092"
    assert settings.metrics.port == 9400


def test_prometheus_scrapes_every_long_running_process() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    scraped = config["scrape_configs"][0]["dns_sd_configs"][0]["names"]
    assert sorted(scraped) == sorted(name for name in OURS if name != "topics")
    if promtool := shutil.which("promtool"):
        subprocess.run([promtool, "check", "config", DEPLOY / "prometheus/prometheus.yml"], check=True, capture_output=True)


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    ours = {family.name for family in text_string_to_metric_families(Metrics().render().decode())}
    words = {
        word
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
        for word in "".join(c if c.isalnum() or c == "_" else " " for c in target["expr"]).split()
        if word.startswith("sightline_")
    }
    known = ours | {f"{name}{suffix}" for name in ours for suffix in ("_total", "_bucket", "_count", "_sum")}
    assert words
    assert words <= known, sorted(words - known)


def test_the_dashboard_has_what_operations_asked_for() -> None:
    titles = " ".join(panel["title"] for panel in DASHBOARD["panels"])
    for wanted in ("Frames by region", "Lag by region", "Gate pass rate", "Stages, p95", "Queue depth", "Generation by shard"):
        assert wanted in titles
