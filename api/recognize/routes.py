"""Routes of this area."""

from api.recognize import handlers, models
from api.route import UPLOAD_S, Route

ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/v1/recognize",
        handler=handlers.recognize,
        tag="recognize",
        needs="recognize",
        audit="photo.recognize",
        summary="Recognize the faces of a photo",
        description=(
            "Boxes, landmarks, quality and candidates for each face, for photo services. EXIF orientation is applied first; nothing "
            "of the photo is stored. A file that comes again is answered from memory, with candidates as of now."
        ),
        form=models.RecognizeForm,
        limit_s=UPLOAD_S,
        answers={200: models.RecognizeAnswer},
        errors=(404, 422),
    ),
)
