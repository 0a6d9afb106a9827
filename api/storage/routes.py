"""Routes of this area."""

from api.route import Media, Route
from api.storage import handlers, models

SEND_S = 3600.0  # some gigabytes over a slow line; whoever sends nothing for half a minute is gone before

ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/v1/uploads",
        handler=handlers.create_upload,
        tag="jobs",
        needs="jobs.write",
        audit="upload.create",
        summary="Say where a large file may be sent",
        description=(
            "Send the file with the given method, URL and headers; no other credentials are needed, so any client can be handed them. "
            "With storage in S3 the URL is presigned and leads there. Only who asked may use the upload in a job. It is erased when a "
            "job has used all of it, and after storage.upload_keep_days."
        ),
        body=models.NewUpload,
        answers={201: models.UploadTarget},
    ),
    Route(
        method="PUT",
        path="/v1/uploads/{upload_id}/content",
        handler=handlers.put_upload_content,
        tag="jobs",
        needs=None,
        audit="upload.receive",
        summary="Send the file",
        description="X-Upload-Token, as given by POST /v1/uploads, says that this one file may be sent; it expires.",
        content=Media("application/octet-stream", "The file."),
        headers={"X-Upload-Token": "From POST /v1/uploads."},
        limit_s=SEND_S,
        answers={200: models.UploadView},
        errors=(401, 409, 422),
    ),
    Route(
        method="GET",
        path="/v1/uploads/{upload_id}",
        handler=handlers.get_upload,
        tag="jobs",
        needs="jobs.write",
        summary="Is the file there?",
        answers={200: models.UploadView},
    ),
    Route(
        method="DELETE",
        path="/v1/uploads/{upload_id}",
        handler=handlers.delete_upload,
        tag="jobs",
        needs="jobs.write",
        audit="upload.erase",
        summary="Erase an upload",
        answers={200: models.UploadView},
    ),
)
