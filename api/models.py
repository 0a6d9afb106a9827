"""What the bodies and queries of all areas are made of. The OpenAPI document is made from these classes."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

LATEST_UNIX_S = 20_000_000_000
"""In the year 2603; pydantic takes larger numbers for milliseconds."""


_NUMBER = re.compile(r"[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?|nan|inf|-inf")
_LAX: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)


def _instant(value: Any) -> datetime:
    """Read an instant: one that is read already, or text, in strict JSON too; JSON's numbers are none, for it has text for it."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        raise ValueError("is text: RFC 3339 with offset")
    try:
        if not 0 <= float(value) <= LATEST_UNIX_S:
            raise ValueError(f"as a number, it is Unix seconds from 0 to {LATEST_UNIX_S}")
        return datetime.fromtimestamp(float(value), UTC)
    except ValueError:
        if _NUMBER.fullmatch(value):
            raise
    try:
        return _LAX.validate_python(value)
    except ValidationError as err:
        raise ValueError(err.errors(include_url=False)[0]["msg"]) from err


Instant = Annotated[AwareDatetime, BeforeValidator(_instant)]
"""Of queries and forms: RFC 3339 with offset, or Unix seconds."""
Box = tuple[float, float, float, float]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Line = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""Text on one line, without control characters."""
Prose = Annotated[str, Field(max_length=4000, pattern=r"^[^\x00]*$")]
"""Text of any number of lines."""
Remark = Annotated[str, Field(min_length=1, max_length=4000, pattern=r"^[^\x00]+$")]
"""The same, but not empty: what somebody has to say."""
Id = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", json_schema_extra={"format": "uuid"})]
Limit = Annotated[int, Field(ge=1, le=500, description="Most rows of a page.")]
CursorText = Annotated[str, Field(max_length=1200, pattern=r"^[A-Za-z0-9_=-]*$", description="`next_cursor` of the page before.")]


class Answer(BaseModel):
    """A response body."""

    model_config = ConfigDict(frozen=True)


class Query(BaseModel):
    """Query parameters; unknown ones are refused, so that a misspelt filter is never taken for none."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PageQuery(Query):
    """Which part of a list."""

    limit: Limit = 50
    cursor: CursorText | None = None


class Patch(Query):
    """What to change; what is absent stays."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("name at least one field to change")
        return self


class ErrorBody(Answer):
    """What went wrong."""

    code: str = Field(description="Stable and machine-readable.")
    message: str = Field(description="One line: what, where, how to mend it.")
    details: list[dict[str, Any]] = Field(default=[], description="Problems field by field: `field`, `problem`.")


class ErrorEnvelope(Answer):
    """Every error of the API."""

    error: ErrorBody
    request_id: str = Field(description="Also in the header X-Request-ID and in the server's log.")
