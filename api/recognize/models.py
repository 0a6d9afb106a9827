"""Bodies of still-image recognition."""

from typing import Annotated

from pydantic import Field

from api.models import Name, Query
from api.search.models import FACE, FaceView, Fpir, K, Score, Terms

Point = tuple[float, float]


class RecognizeForm(Query):
    """A photo, and what is wanted of it."""

    photo: Annotated[bytes, Field(description="The photo file; exactly one: JPEG, PNG, WebP, BMP, GIF, PGM/PPM or TIFF.")]
    collection: Annotated[Name | None, Field(description="The gallery; by default the deployment's.")] = None
    face: Annotated[str, Field(pattern="^(all|best)$", description=FACE)] = "all"
    k: K = 5
    threshold: Score = None
    fpir: Fpir = None
    embeddings: Annotated[bool, Field(description="Return each face's embedding too; needs the permission subjects.write.")] = False


class RecognizedFace(FaceView):
    """A face, where it is, how good it is, and who it might be."""

    landmarks: list[Point] = Field(description="Eyes, nose, corners of the mouth, the picture's left ones first; pixels like the box.")
    embedding: str | None = Field(description="base64 of float32, little-endian, length 1; null where not asked for.")


class RecognizeAnswer(Terms):
    """The faces of a photo, best detected first. Boxes are in pixels of the picture as people see it, EXIF orientation applied."""

    width_px: int = Field(description="Of the picture as people see it.")
    height_px: int
    generation: int = Field(description="Of the gallery that was compared with; -1 without faces.")
    cached: bool = Field(description="This file was looked at before; who it might be is as of now.")
    faces: list[RecognizedFace]
