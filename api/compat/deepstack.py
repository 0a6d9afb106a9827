"""DeepStack's and CodeProject.AI's face endpoints: Blue Iris, Agent DVR. Their clients send the key as a field of the form."""

from typing import Annotated

from aiohttp import web
from pydantic import ConfigDict, Field

from api.compat.failures import FaceProblemError
from api.compat.looking import collection_of, enroll, look, names
from api.compat.similarity import Similarity
from api.models import Answer, Query
from api.notes import note
from api.route import answer
from api.services import services, visible
from api.uploads import MULTIPART, URLENCODED, Form, bare_type, check, read_form
from enrollment.record import clean_name

UNKNOWN = "unknown"
IMAGES = ("image", *(f"image{number}" for number in range(1, 10)))


class ForeignForm(Query):
    """Fields that other clients add mean nothing here; they are taken and ignored, as they count on it."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    api_key: Annotated[str, Field(max_length=4096, description="The key, where no header has it.")] | None = None


UserId = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$", examples=["alice"])]


class DeepStackForm(ForeignForm):
    """A photo."""

    image: Annotated[bytes, Field(description="The photo file; exactly one.")]
    min_confidence: Annotated[float, Field(ge=0, le=1, description="Similarity from which on a face is named.")] | None = None


class DeepStackRegisterForm(ForeignForm):
    """Photos of one person."""

    image: Annotated[bytes, Field(description="The photo file; several are image1, image2, ... up to image9.")]
    userid: UserId


class DeepStackUserForm(ForeignForm):
    """A person."""

    userid: UserId


class DeepStackPrediction(Answer):
    """A face."""

    userid: str
    confidence: float
    x_min: int
    y_min: int
    x_max: int
    y_max: int


class DeepStackFaces(Answer):
    """The faces of a photo."""

    success: bool = True
    predictions: list[DeepStackPrediction]


class DeepStackList(Answer):
    """Who is enrolled."""

    success: bool = True
    faces: list[str]


class DeepStackDone(Answer):
    """It is done."""

    success: bool = True
    message: str = ""


async def key_of_form(request: web.Request) -> str | None:
    """Return the key that the form has, if it is a form."""
    if bare_type(request) not in (MULTIPART, URLENCODED):
        return None
    return (await _form(request, needs_file=False)).fields.get("api_key")


async def deepstack_recognize(request: web.Request) -> web.Response:
    """Name the faces of a photo; strangers are ``unknown``."""
    form = await _form(request)
    wanted = check(DeepStackForm, {**form.fields, "image": b""}, where="form")
    collection = collection_of(request)
    seen = await look(request, form.files[0].data, collection=collection)
    mapping = Similarity.of(services(request).policy.calibration)
    predictions = []
    for face in seen.faces:
        nearest = face.candidates[0] if face.candidates else None
        similarity = mapping.value(nearest.score) if nearest else 0.0
        asked = wanted.min_confidence is not None
        named = similarity >= (wanted.min_confidence or 0.0) if asked else face.decision.outcome == "subject"
        userid = nearest.subject if nearest and named else UNKNOWN
        x1, y1, x2, y2 = (round(value) for value in face.box)
        shown = round(similarity, 5) if userid != UNKNOWN else 0.0
        predictions.append(DeepStackPrediction(userid=userid, confidence=shown, x_min=x1, y_min=y1, x_max=x2, y_max=y2))
    note(request, collection=collection, faces=len(predictions))
    return answer(DeepStackFaces(predictions=predictions))


async def deepstack_register(request: web.Request) -> web.Response:
    """Enrol photos of a person."""
    form = await _form(request)
    wanted = check(DeepStackRegisterForm, {**form.fields, "image": b""}, where="form")
    collection, name = collection_of(request), clean_name(wanted.userid)
    outcomes = [await enroll(request, upload.data, subject=name, collection=collection) for upload in form.files]
    if not any(outcome.reference_id for outcome in outcomes):
        raise FaceProblemError(outcomes[0].reason or "rejected", outcomes[0].detail or outcomes[0].reason)
    return answer(DeepStackDone(message="face added"))


async def deepstack_list(request: web.Request) -> web.Response:
    """List who is enrolled."""
    return answer(DeepStackList(faces=await names(request)))


async def deepstack_delete(request: web.Request) -> web.Response:
    """Erase a person."""
    wanted = check(DeepStackUserForm, (await _form(request, needs_file=False)).fields, where="form")
    gallery = services(request).gallery
    subject = await gallery.subject(clean_name(wanted.userid), collection=collection_of(request))
    receipt = await gallery.erase(subject.subject_id)
    await visible(request, receipt.generation)
    note(request, receipt_id=receipt.receipt_id)
    return answer(DeepStackDone())


async def _form(request: web.Request, *, needs_file: bool = True) -> Form:
    limit = services(request).settings.api.max_upload_bytes
    return await read_form(request, file_field=IMAGES, max_bytes=limit, needs_file=needs_file)
