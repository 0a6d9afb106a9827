"""Who is on this picture, and where?"""

import asyncio
import base64
import hashlib

from aiohttp import web

from api.notes import note
from api.principal import principal
from api.recognize.cache import MOST_COMPARED, MOST_K, Entry, Key
from api.recognize.models import RecognizeAnswer, RecognizedFace, RecognizeForm
from api.route import answer
from api.search.comparing import Asked, asked_of, fpir_of
from api.search.handlers import face_view
from api.search.models import Choice
from api.search.probes import best_face, look, read_photo
from api.services import services
from api.uploads import Upload, check
from core.ports import MatchAnswer
from recognize.still import FaceAnswer


async def recognize(request: web.Request) -> web.Response:
    """Recognize the faces of a photo."""
    behind = services(request)
    form, upload = await read_photo(request)
    wanted = check(RecognizeForm, {**form.fields, "photo": b""}, where="form")
    if wanted.embeddings:
        principal(request).require("subjects.write")
    same = {name: getattr(wanted, name) for name in ("collection", "k", "threshold", "fpir")}
    asked = await asked_of(request, Choice(**same))
    entry, cached = await _look(request, upload, wanted.face)
    found = await _compare(request, entry, asked)
    faces = behind.still.decide(entry.looked.at, found, asked.scope, k=asked.k)
    if any(face.decision.outcome == "opted_out" for face in faces):
        behind.looks.drop(entry)
    threshold = behind.book.now.effective(behind.policy, asked.scope, references=found.references).score
    matches = sum(face.decision.outcome == "subject" for face in faces)
    note(request, faces=len(faces), matches=matches, collection=asked.wanted.collection, cached=cached)
    return answer(
        RecognizeAnswer(
            model=behind.still.model,
            collection=asked.wanted.collection,
            references=found.references,
            threshold=threshold,
            fpir=fpir_of(request, threshold, found.references),
            width_px=entry.looked.width_px,
            height_px=entry.looked.height_px,
            generation=found.generation,
            cached=cached,
            faces=[_face(request, face, found.references, embedding=wanted.embeddings) for face in faces],
        )
    )


async def _look(request: web.Request, upload: Upload, which: str) -> tuple[Entry, bool]:
    """Return what is on a photo, and whether it was known."""
    behind = services(request)
    digest = await asyncio.to_thread(lambda: hashlib.sha256(upload.data).digest())
    key: Key = (digest, behind.still.model, which)
    entry, epoch = behind.looks.get(key), behind.looks.epoch
    if entry is not None:
        return entry, True
    looked = await look(request, upload, pick=best_face if which == "best" else None)
    return behind.looks.put(key, looked, epoch=epoch), False


async def _compare(request: web.Request, entry: Entry, asked: Asked) -> MatchAnswer:
    """Return who the faces might be, as the present generation of the gallery has it."""
    behind = services(request)
    collection, where = asked.wanted.collection, (asked.wanted.collection, asked.k)
    rows = await behind.db.fetch("select generation from gallery_generation")
    known = entry.compared.get(where)
    if known is not None and known.generation == rows[0]["generation"]:
        return known
    found = await behind.still.compare(entry.looked.at.embeddings.vectors, collection, k=asked.k)
    if not found.shards_missing and asked.k <= MOST_K and len(entry.compared) < MOST_COMPARED:
        entry.compared[where] = found
    return found


def _face(request: web.Request, face: FaceAnswer, references: int, *, embedding: bool) -> RecognizedFace:
    view = face_view(request, face, references)
    hidden = not embedding or face.decision.outcome == "opted_out"
    text = None if hidden else base64.b64encode(face.embedding.astype("<f4").tobytes()).decode("ascii")
    return RecognizedFace(**dict(view), landmarks=list(face.landmarks), embedding=text)
