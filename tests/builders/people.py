"""Painted people, enrolled over HTTP."""

from typing import Any

from aiohttp import FormData
from aiohttp.test_utils import TestClient

from core.types import Image
from enrollment.service import Enroller
from tests.builders.gallery import png
from tests.builders.http import ok
from tests.builders.painted import painted, vector_of

ANN, BOB = 1, 4


def photos(*images: Image | bytes, **fields: str) -> FormData:
    """A form with photos."""
    form = FormData()
    for number, image in enumerate(images):
        form.add_field("photo", image if isinstance(image, bytes) else png(image), filename=f"{number}.png")
    for name, value in fields.items():
        form.add_field(name, value)
    return form


def of(person: int, at: tuple[int, int] = (260, 120)) -> Image:
    """A photo of somebody."""
    return painted({person: at}, size_px=120)


async def person(client: TestClient[Any, Any], name: str, *images: Image, **fields: str) -> dict[str, Any]:
    """Enrol somebody; return the subject."""
    body = await ok(await client.post("/v1/enroll", data=photos(*images, name=name, **fields)), 201)
    return dict(body["subject"])


async def found(enroller: Enroller, who: int, collection: str = "default") -> list[str]:
    """Return under which names the matcher knows somebody."""
    answer = await enroller.matcher.search(vector_of(who)[None], model="painted", collection=collection, k=3)
    return [one.subject for one in answer.candidates[0] if one.score > 0.9]
