"""Secrets come from files where the environment says so, and never show."""

from pathlib import Path

import pytest

from core.errors import SettingsError
from core.settings import load_settings


def test_files_of_the_secrets_folder_are_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "kafka__password").write_text("kafka-secret\n")
    (secrets / "broker__password").write_text("rabbit-secret")
    (secrets / "unrelated").write_text("not ours")
    monkeypatch.setenv("SIGHTLINE_SECRETS_DIR", str(secrets))
    settings = load_settings(data_dir=tmp_path)
    assert settings.kafka.password.get_secret_value() == "kafka-secret"
    assert settings.broker.password is not None
    assert settings.broker.password.get_secret_value() == "rabbit-secret"
    assert "secret" not in repr(settings.kafka) + repr(settings.broker)


def test_the_environment_is_above_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kafka__username").write_text("from-file")
    monkeypatch.setenv("SIGHTLINE_SECRETS_DIR", str(tmp_path))
    assert load_settings(data_dir=tmp_path / "data").kafka.username == "from-file"
    monkeypatch.setenv("SIGHTLINE_KAFKA__USERNAME", "from-environment")
    assert load_settings(data_dir=tmp_path / "data").kafka.username == "from-environment"


def test_a_secrets_folder_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_SECRETS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match=r"SIGHTLINE_SECRETS_DIR: .*nowhere"):
        load_settings(data_dir=tmp_path)


def test_all_problems_are_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_KAFKA__SASL_MECHANISM", "GUESS")
    monkeypatch.setenv("SIGHTLINE_MATCHER__STORAGE", "fp8")
    monkeypatch.setenv("SIGHTLINE_METRICS__PORT", "99999")
    with pytest.raises(SettingsError) as caught:
        load_settings(data_dir=tmp_path)
    assert all(name in str(caught.value) for name in ("kafka.sasl_mechanism", "matcher.storage", "metrics.port"))


def test_a_password_inside_a_url_does_not_show() -> None:
    settings = load_settings(database_url="postgresql://a:hush@h/d", broker_url="amqp://a:hush@h")
    assert "hush" not in repr(settings)
    assert "hush" not in str(settings)
