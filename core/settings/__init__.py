"""Settings: one frozen object per process, from keyword arguments, environment (``SIGHTLINE_``), secret files, then ``DIR/sightline.toml``.

``SIGHTLINE_RECOGNIZE__TARGET_FPIR=0.001`` sets ``recognize.target_fpir``; with ``SIGHTLINE_SECRETS_DIR=/run/secrets`` the file
``/run/secrets/kafka__password`` sets ``kafka.password``. All problems are reported at once. Only core/settings/process.py
reads the environment.
"""

from core.settings.api import ApiSettings, OidcSettings, OutboundSettings
from core.settings.faces import (
    EnrollmentSettings,
    HistorySettings,
    IngestSettings,
    MatcherSettings,
    ModelSettings,
    RecognizeSettings,
    SightingSettings,
)
from core.settings.keeping import AuditSettings, EventSettings, JobSettings, RetentionSettings, StorageSettings
from core.settings.links import BrokerSettings, FrigateSettings, KafkaSettings, MetricsSettings, MqttSettings
from core.settings.process import SECRETS_DIR_VARIABLE, SETTINGS_FILE, Settings, child_environment, load_settings

__all__ = [
    "SECRETS_DIR_VARIABLE",
    "SETTINGS_FILE",
    "ApiSettings",
    "AuditSettings",
    "BrokerSettings",
    "EnrollmentSettings",
    "EventSettings",
    "FrigateSettings",
    "HistorySettings",
    "IngestSettings",
    "JobSettings",
    "KafkaSettings",
    "MatcherSettings",
    "MetricsSettings",
    "ModelSettings",
    "MqttSettings",
    "OidcSettings",
    "OutboundSettings",
    "RecognizeSettings",
    "RetentionSettings",
    "Settings",
    "SightingSettings",
    "StorageSettings",
    "child_environment",
    "load_settings",
]
