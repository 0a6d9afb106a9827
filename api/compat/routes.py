"""Routes of this area."""

from collections.abc import Mapping
from typing import Any

from api.compat import compreface, compreface_models, deepstack, rekognition, rekognition_models
from api.compat.failures import AMZ_JSON, compreface_failure, deepstack_failure, rekognition_failure
from api.principal import Permission
from api.route import UPLOAD_S, Handler, Media, Method, Route

_FACES = "/api/v1/recognition/faces"
_SUBJECTS = "/api/v1/recognition/subjects"
_JPEG = Media("image/jpeg", "The picture.")
c = compreface_models

_COMPREFACE: tuple[tuple[Method, str, Handler, Permission, str, Mapping[str, Any]], ...] = (
    (
        "POST",
        "/api/v1/recognition/recognize",
        compreface.compreface_recognize,
        "search",
        "search.photo",
        {"query": c.RecognizeParameters, "form": c.FileForm, "answers": {200: c.Found}},
    ),
    (
        "GET",
        _FACES,
        compreface.compreface_list_faces,
        "subjects.read",
        "references.list",
        {"query": c.FacesParameters, "answers": {200: c.FacesPage}},
    ),
    (
        "POST",
        _FACES,
        compreface.compreface_add_face,
        "subjects.write",
        "subject.enroll",
        {"query": c.FaceParameters, "form": c.FileForm, "answers": {201: c.FaceAdded}},
    ),
    (
        "DELETE",
        _FACES,
        compreface.compreface_delete_faces,
        "subjects.write",
        "reference.erase",
        {"query": c.DeleteParameters, "answers": {200: c.Deleted}},
    ),
    (
        "DELETE",
        _FACES + "/{image_id}",
        compreface.compreface_delete_face,
        "subjects.write",
        "reference.erase",
        {"answers": {200: c.FaceAdded}},
    ),
    ("GET", _FACES + "/{image_id}/img", compreface.compreface_face_image, "subjects.read", "reference.image", {"answers": {200: _JPEG}}),
    (
        "POST",
        _FACES + "/{image_id}/verify",
        compreface.compreface_verify_face,
        "search",
        "search.verify",
        {"form": c.FileForm, "answers": {200: c.Verified}},
    ),
    (
        "POST",
        "/api/v1/verification/verify",
        compreface.compreface_verify,
        "search",
        "search.verify",
        {"form": c.VerifyForm, "answers": {200: c.Verified}},
    ),
    ("GET", _SUBJECTS, compreface.compreface_list_subjects, "subjects.read", "subjects.list", {"answers": {200: c.SubjectNames}}),
    (
        "POST",
        _SUBJECTS,
        compreface.compreface_add_subject,
        "subjects.write",
        "subject.create",
        {"body": c.SubjectBody, "answers": {201: c.SubjectName}},
    ),
    ("DELETE", _SUBJECTS, compreface.compreface_delete_subjects, "subjects.erase", "subject.erase", {"answers": {200: c.Deleted}}),
    (
        "PUT",
        _SUBJECTS + "/{subject}",
        compreface.compreface_rename_subject,
        "subjects.erase",
        "subject.update",
        {"body": c.SubjectBody, "answers": {200: c.Updated}},
    ),
    (
        "DELETE",
        _SUBJECTS + "/{subject}",
        compreface.compreface_delete_subject,
        "subjects.erase",
        "subject.erase",
        {"answers": {200: c.SubjectDeleted}},
    ),
)
_DEEPSTACK: tuple[tuple[Method, str, Handler, Permission, str, Mapping[str, Any]], ...] = (
    (
        "POST",
        "/v1/vision/face/recognize",
        deepstack.deepstack_recognize,
        "search",
        "search.photo",
        {"form": deepstack.DeepStackForm, "answers": {200: deepstack.DeepStackFaces}},
    ),
    (
        "POST",
        "/v1/vision/face/register",
        deepstack.deepstack_register,
        "subjects.write",
        "subject.enroll",
        {"form": deepstack.DeepStackRegisterForm, "answers": {200: deepstack.DeepStackDone}},
    ),
    (
        "POST",
        "/v1/vision/face/list",
        deepstack.deepstack_list,
        "subjects.read",
        "subjects.list",
        {"answers": {200: deepstack.DeepStackList}},
    ),
    (
        "POST",
        "/v1/vision/face/delete",
        deepstack.deepstack_delete,
        "subjects.erase",
        "subject.erase",
        {"form": deepstack.DeepStackUserForm, "answers": {200: deepstack.DeepStackDone}},
    ),
)


def _summary(handler: Handler, system: str) -> str:
    """Return the summary of a handler: what its docstring says."""
    return f"{system}: {(handler.__doc__ or '').splitlines()[0].rstrip('.')}"


def _routes(rows: Any, system: str, failure: Any, body_key: Any = None) -> tuple[Route, ...]:
    return tuple(
        Route(
            method=method,
            path=path,
            handler=handler,
            needs=needs,
            audit=audit,
            summary=_summary(handler, system),
            tag=system.lower(),
            failure=failure,
            body_key=body_key,
            limit_s=UPLOAD_S,
            errors=(400, 404, 409, 413, 415, 422),
            **more,
        )
        for method, path, handler, needs, audit, more in rows
    )


ROUTES: tuple[Route, ...] = (
    *_routes(_COMPREFACE, "CompreFace", compreface_failure),
    *_routes(_DEEPSTACK, "DeepStack", deepstack_failure, deepstack.key_of_form),
    Route(
        method="POST",
        path="/",
        handler=rekognition.rekognition,
        needs="search",
        audit="rekognition",
        summary="Rekognition: one of Amazon's actions on face collections",
        description=f"JSON 1.1; the header X-Amz-Target names the action: {', '.join(rekognition.ACTIONS)}.",
        tag="rekognition",
        body=rekognition_models.AnyBody,
        headers={"X-Amz-Target": "`RekognitionService.` and the name of the action."},
        answers={200: Media(AMZ_JSON, "The action's answer.")},
        errors=(400,),
        failure=rekognition_failure,
        limit_s=UPLOAD_S,
    ),
)
