"""Bodies of uploads."""

import uuid
from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from api.models import Answer, Query
from api.storage.store import StoredUpload

FileName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9 ._()+=@,-]+$",
        min_length=1,
        max_length=200,
        description="What the file is called, for reports.",
    ),
]


class NewUpload(Query):
    """A file that will come."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "people.zip"}]})

    name: FileName = "upload"
    sha256: Annotated[str | None, Field(pattern=r"^[0-9a-f]{64}$", description="Of the content; another content is refused.")] = None


class UploadTarget(Answer):
    """Where to send the file, once, with no other credentials."""

    upload_id: uuid.UUID
    method: Literal["PUT"] = "PUT"
    url: str = Field(description="Of object storage, or a path of this server.")
    headers: dict[str, str] = Field(description="To be sent with it.")
    expires_at: datetime = Field(description="Until when it may be begun.")
    max_bytes: int


class UploadView(Answer):
    """An upload as it is."""

    upload_id: uuid.UUID
    name: str
    state: Literal["waiting", "stored"]
    size_bytes: int | None
    sha256: str | None
    created_at: datetime
    expires_at: datetime

    @staticmethod
    def of(upload: StoredUpload) -> "UploadView":
        """Return an upload as clients see it."""
        return UploadView(
            upload_id=upload.upload_id,
            name=upload.name,
            state="waiting" if upload.size_bytes is None else "stored",
            size_bytes=upload.size_bytes,
            sha256=upload.sha256.hex() if upload.sha256 else None,
            created_at=upload.created_at,
            expires_at=upload.expires_at,
        )
