"""What the commands that look into Kafka share."""

from typing import Any

from core.errors import SettingsError, UsageError
from core.settings import Settings


def require_kafka(settings: Settings) -> None:
    """Check that the settings name a Kafka.

    Raises:
        SettingsError: they name the log inside a process.
    """
    if settings.log_url == "memory:":
        raise SettingsError(
            "this command is about Kafka, and log_url is memory: (the log inside 'sightline run'); set SIGHTLINE_LOG_URL=kafka://host:port"
        )


def frames_topics(admin: Any, regions: list[str] | None) -> list[str]:
    """Return the frames topics of some regions, or all there are.

    Raises:
        UsageError: there is no topic for a region, or none at all.
    """
    from core.topology import FRAMES_PREFIX, frames_topic

    there = [name for name in admin.ours() if name.startswith(FRAMES_PREFIX)]
    wanted = [frames_topic(region) for region in regions] if regions else there
    if absent := [name for name in wanted if name not in there]:
        raise UsageError(f"there is no topic {', '.join(absent)}; 'sightline topics list' shows those that are there")
    if not wanted:
        raise UsageError("there are no frames topics yet; 'sightline topics ensure' makes the topics of the fleet")
    return wanted
