"""What all groups of settings have in common."""

from ipaddress import ip_network
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Rate = Annotated[float, Field(gt=0, lt=1)]
Days = Annotated[float, Field(gt=0, le=3650)]


class Group(BaseModel):
    """Settings of one theme: a table of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def is_network(entry: str) -> bool:
    """Tell whether an entry is an address or a network."""
    try:
        ip_network(entry)
    except ValueError:
        return False
    return True
