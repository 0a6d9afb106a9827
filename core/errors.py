"""Errors of the platform: one line each, saying what, where and how to mend it.

Adapters turn library errors into these with ``from err``; the CLI prints ``str(error)`` and exits with ``exit_code``;
the API answers ``http_status`` through its own table, so no inner room knows HTTP.
"""

from typing import ClassVar


class SightlineError(Exception):
    """Base of every error a user or an operator can cause. ``code`` is stable and machine-readable."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1


class UsageError(SightlineError):
    """The command or request makes no sense as given (bad option, bad filter)."""

    code = "usage"
    exit_code = 2


class SettingsError(SightlineError):
    """A setting is missing or out of range; the text lists all problems at once."""

    code = "settings"
    exit_code = 3


class UnreadableMediaError(SightlineError):
    """A picture or video can't be decoded: truncated, hostile, empty, or not what its name says."""

    code = "unreadable_media"
    exit_code = 4


class NotFoundError(SightlineError):
    """What was asked for by id, name or path does not exist."""

    code = "not_found"
    exit_code = 5


class ConflictError(SightlineError):
    """The change contradicts what is there (name taken, version moved on)."""

    code = "conflict"
    exit_code = 6


class StaleError(ConflictError):
    """The change was made to a version that is no longer the newest."""

    code = "stale"


class ModelError(SightlineError):
    """A model is missing, damaged (sha256), unlicensed for this use, or does not have the expected inputs and outputs."""

    code = "model"
    exit_code = 7


class UnavailableError(SightlineError):
    """A server or stream we depend on does not answer (database, broker, camera, shard). Retrying may help."""

    code = "unavailable"
    exit_code = 8


class MessageError(SightlineError):
    """A message on the wire can't be read; it is dead-lettered with this text as its reason."""

    code = "message"
    exit_code = 9
