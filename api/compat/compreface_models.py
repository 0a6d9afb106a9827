"""Bodies of CompreFace's recognition API."""

from typing import Annotated

from pydantic import ConfigDict, Field

from api.models import Answer, Query

_PRINTABLE = r"[^\x00-\x1f\x7f-\x9f]"
_VISIBLE = r"[^\s\x00-\x1f\x7f-\x9f]"
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=f"^{_PRINTABLE}*{_VISIBLE}{_PRINTABLE}*$", examples=["alice"])]


class CompreFaceQuery(Query):
    """Parameters that CompreFace's clients add; those that mean nothing here are taken and ignored, as they count on it."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class RecognizeParameters(CompreFaceQuery):
    """How to recognize."""

    limit: Annotated[int, Field(ge=0, le=1000, description="Most faces; 0 = all.")] = 0
    prediction_count: Annotated[int, Field(ge=1, le=100, description="Most subjects of a face.")] = 1
    det_prob_threshold: Annotated[float, Field(ge=0, le=1, description="Faces the detector is less sure of are left out.")] = 0.0
    face_plugins: Annotated[str, Field(max_length=200, description="`landmarks` and `calculator` (the embedding) are known.")] = ""
    status: Annotated[bool, Field(description="Adds which models answered.")] = False


class FaceParameters(CompreFaceQuery):
    """Whose face."""

    subject: Name
    det_prob_threshold: Annotated[float, Field(ge=0, le=1)] = 0.0


class FacesParameters(CompreFaceQuery):
    """Which faces."""

    page: Annotated[int, Field(ge=0, le=100_000)] = 0
    size: Annotated[int, Field(ge=1, le=500)] = 20
    subject: Name | None = None


class DeleteParameters(CompreFaceQuery):
    """Whose faces; all without a subject."""

    subject: Name | None = None


class FileForm(CompreFaceQuery):
    """A photo, as `file`."""

    file: Annotated[bytes, Field(description="The photo file; exactly one.")]


class FileBody(CompreFaceQuery):
    """A photo as text."""

    file: Annotated[str, Field(min_length=1, description="Base64 of the photo file.", json_schema_extra={"contentEncoding": "base64"})]


class VerifyForm(CompreFaceQuery):
    """Two photos."""

    source_image: Annotated[bytes, Field(description="A photo of one face.")]
    target_image: Annotated[bytes, Field(description="A photo whose faces are compared with it.")]


class SubjectBody(CompreFaceQuery):
    """A subject's name."""

    subject: Name


class FaceBox(Answer):
    """Where a face is, pixels of the upright photo."""

    probability: float
    x_min: int
    y_min: int
    x_max: int
    y_max: int


class SubjectSimilarity(Answer):
    """A subject, and how similar."""

    subject: str
    similarity: float = Field(description="0..1; about .9 where one comparison in a thousand is a false match.")


class FoundFace(Answer):
    """A face and who it might be."""

    box: FaceBox
    subjects: list[SubjectSimilarity] = Field(description="Never empty where anybody is enrolled: the nearest, whoever it is.")
    landmarks: list[tuple[int, int]] | None = None
    embedding: list[float] | None = None


class Found(Answer):
    """The faces of a photo."""

    result: list[FoundFace]
    plugins_versions: dict[str, str] | None = None


class FaceAdded(Answer):
    """A reference."""

    image_id: str
    subject: str


class FacesPage(Answer):
    """References."""

    faces: list[FaceAdded]
    page_number: int
    page_size: int
    total_pages: int
    total_elements: int


class Deleted(Answer):
    """How many went."""

    deleted: int


class SubjectNames(Answer):
    """All subjects."""

    subjects: list[str]


class SubjectName(Answer):
    """A subject."""

    subject: str


class SubjectDeleted(Answer):
    """The subject that went."""

    subject: str


class Updated(Answer):
    """It is done."""

    updated: bool


class FaceMatch(Answer):
    """A face of the target, compared with the source's."""

    box: FaceBox
    similarity: float


class SourceFace(Answer):
    """The face of the source."""

    box: FaceBox


class Verification(Answer):
    """A comparison."""

    source_image_face: SourceFace
    face_matches: list[FaceMatch]


class Verified(Answer):
    """Comparisons."""

    result: list[Verification]
