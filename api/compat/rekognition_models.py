"""Bodies of Rekognition's actions. Names are Amazon's."""

import base64
import binascii
import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from core.errors import UnreadableMediaError, UsageError

EXTERNAL_ID = re.compile(r"[a-zA-Z0-9_.\-:]{1,200}")
CollectionId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
FaceId = Annotated[str, Field(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]
Percent = Annotated[float, Field(ge=0, le=100)]


class AnyBody(BaseModel):
    """The body of an action; which fields it has depends on X-Amz-Target."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [{"CollectionId": "staff"}]})


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ImageBody(_Body):
    """A photo."""

    Bytes: str | None = None
    S3Object: dict[str, Any] | None = None

    def data(self) -> bytes:
        """Return the photo file. Raises UsageError, UnreadableMediaError."""
        if self.Bytes is None:
            raise UsageError("Image: send Bytes; S3 objects are not read here")
        try:
            return base64.b64decode(self.Bytes, validate=True)
        except (binascii.Error, ValueError) as err:
            raise UnreadableMediaError("Image.Bytes: is no base64") from err


class CollectionBody(_Body):
    """Names a collection."""

    CollectionId: CollectionId


class PageBody(_Body):
    """A page of a list."""

    NextToken: str | None = None
    MaxResults: Annotated[int, Field(ge=0, le=4096)] | None = None


class IndexFacesBody(CollectionBody):
    """Enrols faces."""

    Image: ImageBody
    ExternalImageId: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.\-:]{1,200}$")] | None = None
    MaxFaces: Annotated[int, Field(ge=1)] | None = None


class SearchByImageBody(CollectionBody):
    """Searches for the largest face of a photo."""

    Image: ImageBody
    MaxFaces: Annotated[int, Field(ge=1, le=4096)] = 80
    FaceMatchThreshold: Percent = 80.0


class SearchFacesBody(CollectionBody):
    """Searches for an enrolled face."""

    FaceId: FaceId
    MaxFaces: Annotated[int, Field(ge=1, le=4096)] = 80
    FaceMatchThreshold: Percent = 80.0


class ListFacesBody(CollectionBody, PageBody):
    """A page of a collection's faces."""


class DeleteFacesBody(CollectionBody):
    """Deletes faces."""

    FaceIds: Annotated[list[FaceId], Field(min_length=1, max_length=4096)]


class CompareBody(_Body):
    """Compares two photos."""

    SourceImage: ImageBody
    TargetImage: ImageBody
    SimilarityThreshold: Percent = 80.0


class DetectBody(_Body):
    """Finds faces."""

    Image: ImageBody
