"""Enrolments and erasures through the API while everyone searches: two shards with two replicas each, over a real RabbitMQ."""

import asyncio
import contextlib
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from aiohttp import FormData, TCPConnector
from aiohttp.test_utils import TestClient

from api.app import build_app
from core.adapters.amqp import open_amqp
from core.ports import Broker, Database
from core.settings import BrokerSettings
from core.topology import PROBES_EXCHANGE
from core.types import F32
from enrollment.service import Enroller
from matcher.presence import open_replicas
from recognize.still import StillRecognizer
from tests.builders.amqp import forget
from tests.builders.api import ADMIN, DIMENSIONS, MODEL, PaperVision, services
from tests.builders.fleet import Apart, Fleet
from tests.builders.matcher import unit_rows
from tests.builders.vectors import VectorEnroller, as_text, eyes, photo_bytes

AT_ONCE = 48  # requests under way: more than the server lets in at a time
SEARCHERS = 4
VISIBLE_S = 20.0


@pytest.fixture
async def client(db: Database, amqp_url: str, aiohttp_client: Callable[..., Awaitable[TestClient]]) -> AsyncIterator[TestClient]:
    prefix = f"t{uuid.uuid4().hex[:8]}."

    @asynccontextmanager
    async def connect() -> AsyncIterator[Broker]:
        async with open_amqp(amqp_url, BrokerSettings(), name="test") as broker:
            yield Apart(broker, prefix)

    fleet = Fleet(db=db, connect=connect)
    async with contextlib.AsyncExitStack() as stack:
        for shard in (0, 1, 0, 1):
            await stack.enter_async_context(fleet.matcher(shard, 2))
        asker = await stack.enter_async_context(fleet.asker(timeout_s=10.0))
        replicas = await stack.enter_async_context(open_replicas(db))

        async def await_visible(generation: int) -> None:
            await replicas.await_visible(generation, VISIBLE_S)

        behind = services(db)
        detector, embedder = eyes()
        real = Enroller(
            store=behind.gallery,
            detector=detector,
            embedder=embedder,
            matcher=asker,
            calibration=behind.policy.calibration,
            settings=behind.settings,
            await_visible=await_visible,
        )
        still = StillRecognizer(vision=PaperVision(), matcher=asker, policy=behind.policy, book=behind.book)  # type: ignore[arg-type]
        app = build_app(replace(behind, enroller=VectorEnroller(real), matcher=asker, still=still, await_visible=await_visible))
        connector = TCPConnector(force_close=True)  # an idle connection that the server closes at this moment would fail a request
        yield await aiohttp_client(app, headers=ADMIN, connector=connector)
    await asyncio.to_thread(forget, amqp_url, [prefix + PROBES_EXCHANGE])


@dataclass
class Gallery:
    """What must be found, and what must not, as the server has answered so far."""

    client: TestClient
    vectors: F32
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    live: dict[int, str] = field(default_factory=dict)
    """Subjects by person, from the 2xx of their enrolment until their erasure is asked for."""
    gone: set[str] = field(default_factory=set)
    """Subjects whose erasure was answered."""
    searches: int = 0
    accepted: int = 0
    """Answers of 202."""
    seconds: defaultdict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    """Of each request, by method and the end of its path."""

    async def ask(self, method: str, path: str, *, apart: bool = False, **body: Any) -> tuple[int, Any]:
        """Ask, again as long as the server says that it is busy; wait until an answer of 202 is visible. Searchers ask ``apart``."""
        slots: contextlib.AbstractAsyncContextManager[Any] = contextlib.nullcontext() if apart else self.slots
        while True:
            async with slots:
                started_s = time.monotonic()
                given = {name: value() if callable(value) else value for name, value in body.items()}
                async with self.client.request(method, path, **given) as response:
                    status, answer = response.status, await response.json()
                self.seconds[method, path.rpartition("/")[2]].append(time.monotonic() - started_s)
            if status not in (429, 503):
                break
            await asyncio.sleep(float(response.headers.get("Retry-After", 1)) * np.random.default_rng().uniform(0.1, 0.5))
        assert status in (200, 201, 202), answer
        if status == 202:
            self.accepted += 1
            while not (await self.ask("GET", "/v1/gallery"))[1]["visible"]:
                pass
        return status, answer

    async def person(self, number: int, *, stays: bool) -> None:
        """Enrol somebody, who is found at once; erase most of them, who are found no more."""
        _, subject = await self.ask("POST", "/v1/subjects", json={"name": f"P{number}"})
        key = subject["subject_id"]

        def form() -> FormData:
            made = FormData({"on_doubt": "enroll"})
            made.add_field("photo", photo_bytes(self.vectors[number]), filename=f"{number}.png")
            return made

        _, answer = await self.ask("POST", f"/v1/subjects/{key}/references", data=form)
        assert answer["enrolled"] == 1, answer
        self.live[number] = key
        await self.search(number)
        if stays:
            return
        del self.live[number]
        await self.ask("DELETE", f"/v1/subjects/{key}")
        self.gone.add(key)
        await self.search(number)

    async def search(self, number: int, *, apart: bool = False) -> None:
        """Ask for a person, and check the answer against what was certain when the question was sent."""
        wanted, gone = self.live.get(number), frozenset(self.gone)
        body = {"embedding": as_text(self.vectors[number]), "model": MODEL, "k": 5}
        _, answer = await self.ask("POST", "/v1/search/embedding", apart=apart, json=body)
        found = [one["subject_id"] for one in answer["candidates"]]
        assert not gone.intersection(found), f"P{number}: an erased subject was found"
        if wanted is not None and self.live.get(number) == wanted:
            assert wanted in found, f"P{number} is enrolled and was not found"
        self.searches += 1

    async def search_on(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        while True:
            await self.search(int(rng.integers(len(self.vectors))), apart=True)


@pytest.mark.parametrize("people", [100, pytest.param(1000, marks=pytest.mark.full)])
async def test_an_enrolled_subject_is_found_and_an_erased_one_is_not(
    client: TestClient, people: int, record_property: Callable[[str, object], None]
) -> None:
    gallery = Gallery(client, unit_rows(people, DIMENSIONS, seed=5))
    started_s = time.monotonic()
    async with asyncio.TaskGroup() as searching:
        searchers = [searching.create_task(gallery.search_on(seed)) for seed in range(SEARCHERS)]
        async with asyncio.TaskGroup() as work:
            for number in range(people):
                work.create_task(gallery.person(number, stays=number % 4 == 0))
        for searcher in searchers:
            searcher.cancel()
    took_s = time.monotonic() - started_s
    for number in range(people):
        await gallery.search(number)
    assert (len(gallery.live), len(gallery.gone)) == (people // 4, people - people // 4)
    assert gallery.searches > 2.75 * people + 10 * SEARCHERS  # each enrolment and erasure is checked, and everyone searches beside that
    p50, p99 = (np.quantile(gallery.seconds["POST", "references"], share) for share in (0.5, 0.99))
    record_property(
        "told",
        f"{people} enrolments, {len(gallery.gone)} erasures, {gallery.searches} searches against 2 shards x 2 replicas in {took_s:.1f} s; "
        f"{gallery.accepted} answers of 202; enrolment p50 {p50:.2f} s, p99 {p99:.2f} s",
    )
