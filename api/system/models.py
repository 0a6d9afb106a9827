"""Answers about this server."""

from typing import Literal

from pydantic import Field

from api.models import Answer


class Alive(Answer):
    """The process answers."""

    status: Literal["ok"] = "ok"


class ReadyCheck(Answer):
    """One thing that must work."""

    name: str
    ok: bool
    reason: str = Field(default="", description="What is missing, in one line.")


class Ready(Answer):
    """Whether requests can be served now."""

    ready: bool
    checks: list[ReadyCheck]
