"""Which cameras there are, and how they are."""

import base64
import uuid
from dataclasses import replace
from typing import Any

from aiohttp import web

from api.cameras.models import (
    CameraList,
    CameraPatch,
    CameraQuery,
    CameraRemoved,
    CameraTest,
    CameraTrial,
    CameraView,
    NewCamera,
)
from api.cameras.trials import TRIALS
from api.cursor import decode_name, page_by_name
from api.errors import BusyError, UnprocessableError, UnreachableError, sensible
from api.images import picture
from api.notes import note
from api.principal import principal
from api.route import answer, expected_version
from api.services import services
from api.uploads import read_json, read_query
from core.errors import NotFoundError, UnavailableError, UnreadableMediaError, UsageError
from core.outbound import CAMERA_SCHEMES, AddressRefusedError, parse_url, require_public
from core.secrets import SecretBox
from ingest.cameras import GATE, CameraRecord, CameraSpec, CameraStore


async def list_cameras(request: web.Request) -> web.Response:
    """Return cameras and how they are."""
    query = read_query(request, CameraQuery)
    after = decode_name(query.cursor)
    who = principal(request)
    found = [
        camera
        for camera in sorted(await services(request).cameras(), key=lambda camera: camera.name)
        if who.sees_camera(camera.groups)
        and camera.name > after
        and query.group in (None, *camera.groups)
        and query.region in (None, camera.region)
    ]
    page, following = page_by_name(found, query.limit, lambda camera: camera.name)
    return answer(CameraList(cameras=page, next_cursor=following))


async def create_camera(request: web.Request) -> web.Response:
    """Add a camera."""
    body = await read_json(request, NewCamera)
    await _require_public(request, body.url)
    _check_groups(request, body.groups)
    note(request, camera=body.name)
    with sensible():
        spec = CameraSpec(name=body.name, url=body.url, allow=_allow(request), **_fields(body, set(type(body).model_fields)))
        made = await _store(request).add(spec, groups=body.groups, enabled=body.enabled)
    response = await _shown(request, made, status=201)
    response.headers["Location"] = f"/v1/cameras/{made.spec.name}"
    return response


async def get_camera(request: web.Request) -> web.Response:
    """Return one camera and how it is."""
    return await _shown(request, await _camera(request))


async def update_camera(request: web.Request) -> web.Response:
    """Change a camera; whoever runs it follows within seconds."""
    body = await read_json(request, CameraPatch)
    before = await _camera(request)
    given = body.model_fields_set
    if "url" in given:
        await _require_public(request, body.url)
    if "groups" in given:
        _check_groups(request, body.groups)
    changes = _fields(body, given) | ({"url": body.url, "allow": _allow(request)} if "url" in given else {})

    def changed(camera: CameraRecord) -> CameraRecord:
        return replace(
            camera,
            spec=replace(camera.spec, **changes),
            groups=tuple(sorted(set(body.groups))) if "groups" in given else camera.groups,
            enabled=body.enabled if "enabled" in given else camera.enabled,
        )

    note(request, camera=before.spec.name, changed=sorted(given))
    with sensible():
        after = await _store(request).change(before.spec.name, changed, version=expected_version(request))
    return await _shown(request, after)


async def delete_camera(request: web.Request) -> web.Response:
    """Forget a camera and its credentials."""
    camera = await _camera(request)
    note(request, camera=camera.spec.name)
    await _store(request).remove(camera.spec.name, version=expected_version(request))
    return answer(CameraRemoved(name=camera.spec.name))


async def get_snapshot(request: web.Request) -> web.Response:
    """Connect to a camera and return its picture."""
    camera = await _camera(request)
    note(request, camera=camera.spec.name)
    try:
        _, jpeg = await request.app[TRIALS].look(camera.spec.url, allow=camera.spec.allow, measure=False)
    except BusyError:
        raise
    except (UnavailableError, UnreadableMediaError, NotFoundError, AddressRefusedError) as err:
        raise UnreachableError(str(err)) from err
    return await picture(request, jpeg, name=f"snapshot {uuid.uuid4()}")


async def test_camera(request: web.Request) -> web.Response:
    """Try a URL, and say what it sends, or why it sends nothing."""
    body = await read_json(request, CameraTrial)
    parse_url(body.url, schemes=CAMERA_SCHEMES)
    try:
        probe, jpeg = await request.app[TRIALS].look(body.url, allow=_allow(request), measure=True)
    except (AddressRefusedError, BusyError):
        raise
    except (UnavailableError, UnreadableMediaError, NotFoundError, UsageError) as err:
        note(request, ok=False)
        return answer(CameraTest(ok=False, reason=str(err)))
    shown = await picture(request, jpeg, name=f"snapshot {uuid.uuid4()}")
    note(request, ok=True)
    return answer(CameraTest.of(probe, base64.b64encode(bytes(shown.body or b"")).decode("ascii")))  # type: ignore[arg-type]


def _store(request: web.Request) -> CameraStore:
    return CameraStore(services(request).db, SecretBox(services(request).db.vault), allow=_allow(request))


def _allow(request: web.Request) -> tuple[str, ...]:
    return services(request).settings.outbound.camera_allow


async def _camera(request: web.Request) -> CameraRecord:
    return await _store(request).get(request.match_info["name"], groups=principal(request).camera_groups)


async def _require_public(request: web.Request, url: str) -> None:
    await require_public(url, allow=_allow(request), schemes=CAMERA_SCHEMES)


def _check_groups(request: web.Request, groups: list[str]) -> None:
    """Refuse a camera that who adds it could not see."""
    who = principal(request)
    if not who.sees_camera(groups) or (who.camera_groups is not None and not who.camera_groups.issuperset(groups)):
        raise UnprocessableError("groups: name at least one of the camera groups that you are granted, and no other")


def _fields(body: NewCamera | CameraPatch, given: set[str]) -> dict[str, Any]:
    """Return the fields of the camera's description that a body names."""
    fields: dict[str, Any] = {name: getattr(body, name) for name in ("region", "max_fps") if name in given}
    for name in ("zones", "masks"):
        if name in given:
            fields[name] = tuple(tuple((float(x), float(y)) for x, y in polygon) for polygon in getattr(body, name))
    if "gate" in given:
        fields |= {name: getattr(body.gate, name) for name in GATE if name != "max_fps"}
    return fields


async def _shown(request: web.Request, camera: CameraRecord, status: int = 200) -> web.Response:
    """Return a camera as it is stored, with how it is."""
    now = next((view for view in await services(request).cameras() if view.name == camera.spec.name), None)
    how = now.model_dump(include={"reason", "since", "last_frame_at", "frames_published"}) if now else {}
    view = CameraView.of(camera, state=now.state if now and now.state != "disabled" else "waiting", **how)
    return answer(view, status=status, version=camera.version)
