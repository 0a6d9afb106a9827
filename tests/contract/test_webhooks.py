"""Webhooks: made over the API, queued from the log of events, posted to a real endpoint."""

import asyncio
import dataclasses
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient

from api.access.authenticator import ADMINISTRATOR
from api.app import build_app
from api.principal import PRINCIPAL, Principal
from api.services import ApiServices
from api.webhooks.dispatch import Dispatcher, dispatcher_of
from api.webhooks.store import SEALED, DeliveryStore, WebhookStore
from api.webhooks.wants import Wants, pause_s, retry_s, signature
from core.ports import Database
from core.sealing import count
from core.settings import OutboundSettings
from tests.builders.api import ADMIN, services
from tests.builders.live import told
from tests.builders.sightings import ALICE, NOW_S, arrival
from tests.builders.webhooks import WAIT_S, Receiver, receiver

ClientMaker = Callable[..., Awaitable[TestClient]]
WANTS_GALLERY = Wants(kinds=frozenset({"gallery"}))


@pytest.fixture
def behind(db: Database) -> ApiServices:
    parts = services(db)
    outbound = OutboundSettings(allowed_hosts=("127.0.0.1",))
    return dataclasses.replace(parts, settings=parts.settings.model_copy(update={"outbound": outbound}))


@pytest.fixture
async def endpoint() -> AsyncIterator[Receiver]:
    async with receiver() as one:
        yield one


async def ok(response: ClientResponse, status: int = 200) -> Any:
    assert response.status == status, await response.text()
    return await response.json()


async def made(client: TestClient, url: str, **fields: Any) -> dict[str, Any]:
    return await ok(await client.post("/v1/webhooks", json={"url": url, "kinds": ["sighting", "gallery"]} | fields), 201)


async def deliveries(client: TestClient, webhook: dict[str, Any], query: str = "") -> list[dict[str, Any]]:
    return (await ok(await client.get(f"/v1/webhooks/{webhook['webhook_id']}/deliveries{query}")))["deliveries"]


async def settled(client: TestClient, webhook: dict[str, Any], state: str, count: int = 1) -> list[dict[str, Any]]:
    """Wait until so many deliveries are in a state."""
    async with asyncio.timeout(WAIT_S):
        while len(found := await deliveries(client, webhook, f"?state={state}")) < count:  # noqa: ASYNC110 - it lies in the database
            await asyncio.sleep(0.02)
    return found


@asynccontextmanager
async def dispatching(behind: ApiServices, **changes: Any) -> AsyncIterator[Dispatcher]:
    """Run a dispatcher inside the block; killed at its end, as a process is: what is in flight stays so."""
    dispatcher = dataclasses.replace(dispatcher_of(behind.settings, behind.events, behind.metrics), **changes)
    await dispatcher.queue_new()
    task = asyncio.create_task(dispatcher.run())
    try:
        yield dispatcher
    finally:
        task.cancel()
        await asyncio.wait({task})


# --- the resource --------------------------------------------------------------------------------------------------------------


async def test_a_webhook_is_made_changed_and_removed(client: TestClient, behind: ApiServices) -> None:
    response = await client.post(
        "/v1/webhooks", json={"url": "http://127.0.0.1:9/hook?token=t0p", "kinds": ["alert", "sighting"], "cameras": ["door"]}
    )
    webhook = await ok(response, 201)
    secret = webhook.pop("secret")
    assert re.fullmatch(r"whsec_[\w-]{43}", secret)
    assert response.headers["Location"] == f"/v1/webhooks/{webhook['webhook_id']}"
    assert {name: webhook[name] for name in ("kinds", "cameras", "state", "version")} == {
        "kinds": ["alert", "sighting"],
        "cameras": ["door"],
        "state": "ok",
        "version": 1,
    }
    stored = (await behind.db.fetch("select url, secret from webhook"))[0]
    assert b"t0p" not in stored["url"]
    assert secret.encode() not in stored["secret"]
    path = f"/v1/webhooks/{webhook['webhook_id']}"
    assert await ok(await client.get(path)) == webhook
    changed = await ok(await client.patch(path, json={"cameras": [], "enabled": False}, headers={"If-Match": '"v1"'}))
    assert (changed["cameras"], changed["state"], changed["version"], changed["kinds"]) == ([], "disabled", 2, ["alert", "sighting"])
    assert (await client.patch(path, json={"enabled": True}, headers={"If-Match": '"v1"'})).status == 412
    assert (await client.patch(path, json={})).status == 400
    renewed = await ok(await client.post(f"{path}/secret"))
    assert renewed["secret"] != secret
    assert (await ok(await client.get("/v1/webhooks")))["webhooks"][0]["version"] == 3
    assert await ok(await client.delete(path)) == {"webhook_id": webhook["webhook_id"]}
    assert (await client.get(path)).status == 404


async def test_changes_at_once_follow_each_other_unless_they_name_a_version(client: TestClient) -> None:
    path = f"/v1/webhooks/{(await made(client, 'http://127.0.0.1:9/hook'))['webhook_id']}"
    many = await asyncio.gather(*(client.patch(path, json={"description": f"guard desk {number}"}) for number in range(5)))
    assert [response.status for response in many] == [200] * 5
    assert (await client.delete(path, headers={"If-Match": '"v1"'})).status == 412
    once = await asyncio.gather(*(client.patch(path, json={"enabled": False}, headers={"If-Match": '"v6"'}) for _ in range(5)))
    assert sorted(response.status for response in once) == [200, 412, 412, 412, 412]


async def test_url_and_secret_are_sealed_anew_with_the_deployments_keys(client: TestClient, behind: ApiServices) -> None:
    await made(client, "http://127.0.0.1:9/")
    assert [await count(behind.db, column) for column in SEALED] == [(1, 0), (1, 0)]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.2/x",
        "http://10.0.0.1/x",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://0x7f.1/",
        "http://2130706433/",
    ],
)
async def test_urls_that_lead_inside_are_refused(client: TestClient, url: str) -> None:
    response = await client.post("/v1/webhooks", json={"url": url, "kinds": ["alert"]})
    assert (await ok(response, 422))["error"]["code"] == "address_refused"


@pytest.mark.parametrize(
    "change", [{"url": "ftp://example.com/x"}, {"kinds": []}, {"kinds": ["rumour"]}, {"cameras": ["no/name"]}, {"x": 1}]
)
async def test_what_is_no_webhook_is_refused(client: TestClient, change: dict[str, Any]) -> None:
    response = await client.post("/v1/webhooks", json={"url": "https://hooks.example.com/", "kinds": ["alert"]} | change)
    assert response.status == 400


async def test_a_name_that_resolves_to_a_private_address_later_is_refused_when_it_is_delivered(behind: ApiServices, db: Database) -> None:
    """Judged at each delivery: here the settings have changed, as a rebinding name changes its address."""
    webhook, _ = await WebhookStore(db).add("http://127.0.0.1:9/", WANTS_GALLERY, ADMINISTRATOR, description="", enabled=True)
    async with dispatching(behind, allow=()):
        await told(db, 1)
        async with asyncio.timeout(WAIT_S):
            while not (await WebhookStore(db).get(webhook.webhook_id, ADMINISTRATOR)).last_error:  # noqa: ASYNC110 - it lies in the database
                await asyncio.sleep(0.02)
    error = (await WebhookStore(db).get(webhook.webhook_id, ADMINISTRATOR)).last_error
    assert error is not None
    assert error.startswith("127.0.0.1: leads to a loopback address")


def as_principal(behind: ApiServices, who: Principal) -> web.Application:
    """Return the API as one principal sees it, whoever asks."""
    app = build_app(behind)

    @web.middleware
    async def is_who(request: web.Request, handler: Any) -> web.StreamResponse:
        request[PRINCIPAL] = who
        return await handler(request)

    app.middlewares.append(is_who)
    return app


async def test_a_webhook_delivers_no_more_than_its_maker_may_see(
    behind: ApiServices, client: TestClient, aiohttp_client: ClientMaker, endpoint: Receiver
) -> None:
    who = dataclasses.replace(ADMINISTRATOR, collections=frozenset({"mine"}), permissions=frozenset({"webhooks.write", "subjects.read"}))
    limited = await aiohttp_client(as_principal(behind, who), headers=ADMIN)
    everything = await made(client, "http://127.0.0.1:9/")
    assert (await limited.get(f"/v1/webhooks/{everything['webhook_id']}")).status == 404
    assert (await ok(await limited.get("/v1/webhooks")))["webhooks"] == []
    assert (await limited.post("/v1/webhooks", json={"url": endpoint.url, "kinds": ["alert"]})).status == 403
    mine = await made(limited, endpoint.url, kinds=["gallery"])
    async with dispatching(behind):
        await told(behind.db, 1, collection="yours")
        await told(behind.db, 1, collection="mine")
        assert (await endpoint.next())[1]["event_id"] == 2
        assert len(await settled(limited, mine, "delivered")) == 1
    assert len(await deliveries(limited, mine)) == 1


# --- delivery ------------------------------------------------------------------------------------------------------------------


async def test_what_happens_is_posted_signed_and_once(client: TestClient, behind: ApiServices, endpoint: Receiver) -> None:
    webhook = await made(client, endpoint.url, cameras=["door"])
    async with dispatching(behind), dispatching(behind):  # two processes share the work
        await behind.sightings.upsert([arrival("a", subject="alice"), arrival("b", camera="hall")], now_s=NOW_S)
        await behind.sightings.upsert([arrival("a", subject="alice", revision=2)], now_s=NOW_S)  # no news
        headers, body = await endpoint.next()
        (delivery,) = await settled(client, webhook, "delivered")
    assert (body["kind"], body["data"]["subject"], body["data"]["camera"]) == ("sighting", "Alice", "door")
    assert headers["X-Sightline-Event-Id"] == str(body["event_id"]) == str(delivery["event_id"])
    assert headers["X-Sightline-Delivery-Id"] == delivery["delivery_id"]
    assert headers["Content-Type"] == "application/json"
    assert (delivery["attempts"], delivery["status"], delivery["error"]) == (1, 200, None)
    assert endpoint.got.empty()
    assert b'sightline_webhooks_attempts_total{outcome="delivered"} 1.0' in behind.metrics.render()


async def test_the_documented_verification_accepts_what_is_sent_and_nothing_else(
    client: TestClient, behind: ApiServices, endpoint: Receiver
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "api" / "outward.md").read_text()
    (snippet,) = re.findall(r"```python\n(import hashlib.*?)```", text, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(snippet, "outward.md", "exec"), names)
    webhook = await made(client, endpoint.url)
    result = await ok(await client.post(f"/v1/webhooks/{webhook['webhook_id']}/test"))
    assert (result["state"], result["kind"], result["status"], result["event_id"]) == ("delivered", "test", 200, None)
    headers, body = await endpoint.got.get()
    header = headers["X-Sightline-Signature"]
    now_s = int(re.findall(r"t=(\d+)", header)[0])
    verify = names["verify"]
    assert verify(webhook["secret"], header, body, now_s=now_s + 60)
    assert not verify(webhook["secret"], header, body + b" ", now_s=now_s)
    assert not verify("whsec_other", header, body, now_s=now_s)
    assert not verify(webhook["secret"], header, body, now_s=now_s + 3600)
    assert not verify(webhook["secret"], header.replace("t=", "t=1"), body, now_s=now_s)
    assert not verify(webhook["secret"], "nonsense", body, now_s=now_s)
    assert header == signature(webhook["secret"], body, now_s)


async def test_failures_are_tried_again_then_the_endpoint_is_paused_and_says_so(
    client: TestClient, behind: ApiServices, endpoint: Receiver
) -> None:
    endpoint.answers.extend(
        [web.Response(status=500, text="no\x00t now"), web.Response(status=302, headers={"Location": "/hook"}), web.Response(status=204)]
    )
    webhook = await made(client, endpoint.url)
    async with dispatching(behind):
        await told(behind.db, 1)
        await endpoint.next()
        async with asyncio.timeout(WAIT_S):
            while not (await deliveries(client, webhook))[0]["error"]:  # noqa: ASYNC110 - it lies in the database
                await asyncio.sleep(0.02)
        (first,) = await deliveries(client, webhook)
        assert (first["state"], first["status"], first["error"]) == ("waiting", 500, "it answered 500: no t now")
        assert (await ok(await client.get(f"/v1/webhooks/{webhook['webhook_id']}")))["state"] == "failing"
        await behind.db.execute("update webhook_delivery set due_at = now()")
        await endpoint.next()
        async with asyncio.timeout(WAIT_S):
            while (await deliveries(client, webhook))[0]["status"] != 302:  # noqa: ASYNC110 - it lies in the database
                await asyncio.sleep(0.02)
        await behind.db.execute("update webhook set failures = 4")
        endpoint.answers.appendleft(web.Response(status=503))
        await behind.db.execute("update webhook_delivery set due_at = now()")
        await endpoint.next()
        async with asyncio.timeout(WAIT_S):
            while (paused := await ok(await client.get(f"/v1/webhooks/{webhook['webhook_id']}")))["state"] != "paused":  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert (paused["failures"], paused["last_error"]) == (5, "it answered 503")
        await behind.db.execute("update webhook_delivery set due_at = now()")
        await ok(await client.patch(f"/v1/webhooks/{webhook['webhook_id']}", json={"enabled": True}))  # ends the pause
        await endpoint.next()
        (last,) = await settled(client, webhook, "delivered")
    assert (last["attempts"], last["status"]) == (4, 204)
    assert (await ok(await client.get(f"/v1/webhooks/{webhook['webhook_id']}")))["state"] == "ok"


async def test_what_failed_for_a_day_is_dead_visible_and_can_be_replayed(
    client: TestClient, behind: ApiServices, endpoint: Receiver
) -> None:
    endpoint.answers.append(web.Response(status=500))
    webhook = await made(client, endpoint.url)
    async with dispatching(behind, give_up=timedelta(0)):
        await told(behind.db, 1)
        (dead,) = await settled(client, webhook, "dead")
        assert (dead["attempts"], dead["error"]) == (1, "it answered 500")
        path = f"/v1/webhooks/{webhook['webhook_id']}/deliveries/{dead['delivery_id']}/replay"
        assert (await ok(await client.post(path), 202))["state"] == "waiting"
        (again,) = await settled(client, webhook, "delivered")
        assert again["event_id"] == dead["event_id"]
    assert (await client.post(path.replace(dead["delivery_id"], str(uuid.uuid4())))).status == 404


async def test_what_waited_for_a_day_at_a_paused_endpoint_is_given_up(client: TestClient, behind: ApiServices) -> None:
    webhook = await made(client, "http://127.0.0.1:9/")
    await dispatcher_of(behind.settings, behind.events, behind.metrics).queue_new()
    await told(behind.db, 1)
    await dispatcher_of(behind.settings, behind.events, behind.metrics).queue_new()
    await behind.db.execute("update webhook_delivery set queued_at = now() - interval '25 hours'")
    store = DeliveryStore(behind.db)
    assert await store.tidy(give_up=timedelta(hours=24), keep=timedelta(days=7)) == 1
    assert (await deliveries(client, webhook))[0]["error"] == "not tried: the webhook is disabled or paused"
    await behind.db.execute("update webhook_delivery set finished_at = now() - interval '8 days'")
    await store.tidy(give_up=timedelta(hours=24), keep=timedelta(days=7))
    assert await deliveries(client, webhook) == []


async def test_a_process_that_is_killed_in_mid_delivery_loses_nothing(client: TestClient, behind: ApiServices, endpoint: Receiver) -> None:
    endpoint.hold = asyncio.Event()
    webhook = await made(client, endpoint.url)
    lease = timedelta(milliseconds=300)
    async with dispatching(behind, lease=lease):
        await told(behind.db, 3)
        first = {(await endpoint.next())[1]["event_id"] for _ in range(3)}
    assert [one["state"] for one in await deliveries(client, webhook)] == ["waiting"] * 3
    await told(behind.db, 1)  # nobody is there to queue it
    endpoint.hold.set()
    async with dispatching(behind, lease=lease):
        done = await settled(client, webhook, "delivered", 4)
    assert {one["event_id"] for one in done} == first | {4}
    assert sorted(one["attempts"] for one in done) == [1, 2, 2, 2]


async def test_one_slow_endpoint_delays_no_other(client: TestClient, behind: ApiServices, endpoint: Receiver) -> None:
    async with receiver() as slow:
        slow.hold = asyncio.Event()
        stuck = await made(client, slow.url)
        quick = await made(client, endpoint.url)
        async with dispatching(behind):
            await told(behind.db, 20)
            assert len(await settled(client, quick, "delivered", 20)) == 20
            assert slow.got.qsize() == 4
            slow.hold.set()
            await settled(client, stuck, "delivered", 20)


async def test_nothing_of_an_erased_row_is_sent_and_a_range_can_be_replayed(
    client: TestClient, behind: ApiServices, endpoint: Receiver
) -> None:
    await behind.sightings.upsert([arrival("a", subject="alice"), arrival("b")], now_s=NOW_S)
    webhook = await made(client, endpoint.url)
    path = f"/v1/webhooks/{webhook['webhook_id']}/replay"
    assert (await ok(await client.post(path, json={"since": "2020-01-01T00:00:00Z"}), 202)) == {"queued": 2, "complete": True, "next": None}
    await behind.db.execute("delete from sighting where subject_id = $1", uuid.UUID(ALICE))
    async with dispatching(behind):
        assert (await endpoint.next())[1]["data"]["outcome"] == "stranger"
        (skipped,) = await settled(client, webhook, "skipped")
        await settled(client, webhook, "delivered")
    assert skipped["error"] == "what it was about is gone, or its maker may not see it any more"
    assert (await ok(await client.post(path, json={"since": "2099-01-01T00:00:00Z"}), 202))["queued"] == 0
    assert (await client.post(path, json={"since": "0001-01-01T00:00:00+23:59"})).status == 422


async def test_deliveries_are_listed_in_pages(client: TestClient, behind: ApiServices) -> None:
    webhook = await made(client, "http://127.0.0.1:9/")
    await dispatcher_of(behind.settings, behind.events, behind.metrics).queue_new()
    await told(behind.db, 5)
    await dispatcher_of(behind.settings, behind.events, behind.metrics).queue_new()
    path, seen, query = f"/v1/webhooks/{webhook['webhook_id']}/deliveries?limit=2", [], ""
    for _ in range(3):
        page = await ok(await client.get(path + query))
        seen += [one["event_id"] for one in page["deliveries"]]
        query = f"&cursor={page['next_cursor']}"
    assert (sorted(seen), page["next_cursor"]) == ([1, 2, 3, 4, 5], None)
    assert (await client.get(path + "&cursor=x")).status == 422


# --- when to try again ---------------------------------------------------------------------------------------------------------


def test_retries_double_from_a_second_to_an_hour_with_jitter() -> None:
    waits = [[retry_s(attempts, Random(seed)) for seed in range(50)] for attempts in range(1, 40)]
    assert all(1.0 <= wait <= 3600.0 for some in waits for wait in some)
    assert max(waits[0]) <= 2.0
    assert min(waits[14]) >= 1800.0
    assert all(len(set(some)) > 10 for some in waits[1:])


def test_an_endpoint_is_paused_after_five_failures_for_longer_and_longer() -> None:
    assert [pause_s(failures) for failures in (0, 4, 5, 6, 20, 2000)] == [None, None, 30.0, 60.0, 3600.0, 3600.0]
