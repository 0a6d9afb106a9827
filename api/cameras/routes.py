"""Routes of this area."""

from functools import partial

from api.cameras import handlers, models
from api.route import Media, Route

_read = partial(Route, tag="cameras", needs="cameras.read")
_write = partial(Route, tag="cameras", needs="cameras.write")

ROUTES: tuple[Route, ...] = (
    _read(
        method="GET",
        path="/v1/cameras",
        handler=handlers.list_cameras,
        summary="List cameras and how they are",
        query=models.CameraQuery,
        answers={200: models.CameraList},
        errors=(422,),
    ),
    _write(
        method="POST",
        path="/v1/cameras",
        handler=handlers.create_camera,
        audit="camera.create",
        summary="Add a camera",
        description="Files, devices and addresses that the settings `outbound` do not allow are refused.",
        body=models.NewCamera,
        answers={201: models.CameraView},
        errors=(409, 422),
    ),
    _write(
        method="POST",
        path="/v1/camera-tests",
        handler=handlers.test_camera,
        audit="camera.test",
        summary="Try a camera's URL",
        description="Connects, and answers what the stream is and its first picture; or `ok: false` and why there is none.",
        body=models.CameraTrial,
        answers={200: models.CameraTest},
        errors=(422,),
    ),
    _read(
        method="GET",
        path="/v1/cameras/{name}",
        handler=handlers.get_camera,
        summary="Show a camera and how it is",
        answers={200: models.CameraView},
    ),
    _write(
        method="PATCH",
        path="/v1/cameras/{name}",
        handler=handlers.update_camera,
        audit="camera.update",
        summary="Change a camera",
        description="Whoever runs it follows within seconds.",
        body=models.CameraPatch,
        answers={200: models.CameraView},
        errors=(412, 422),
    ),
    _write(
        method="DELETE",
        path="/v1/cameras/{name}",
        handler=handlers.delete_camera,
        audit="camera.delete",
        summary="Forget a camera and its credentials",
        description="What it saw stays.",
        answers={200: models.CameraRemoved},
        errors=(412,),
    ),
    _read(
        method="GET",
        path="/v1/cameras/{name}/snapshot.jpg",
        handler=handlers.get_snapshot,
        audit="camera.snapshot",
        summary="A camera's picture now",
        description="Connects to the camera. 424 says in one line why there is no picture.",
        errors=(424,),
        answers={200: Media("image/jpeg", "The picture; faces are blurred for who may not see them.")},
    ),
)
