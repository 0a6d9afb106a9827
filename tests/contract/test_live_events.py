"""Live events over SSE and WebSocket: what is told, to whom, from where on, and when clients are let go."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import ClientPayloadError, WSMsgType, WSServerHandshakeError, web
from aiohttp.test_utils import TestClient

from api.access.authenticator import ADMINISTRATOR
from api.app import build_app
from api.errors import BusyError
from api.live.cameras import tell_cameras
from api.live.hub import CLIENT_EVENTS, MAX_BEHIND, MAX_CLIENTS, EventHub
from api.live.models import ChangeView
from api.live.views import Wanted
from api.principal import PRINCIPAL, Principal
from api.services import ApiServices
from core.events import expire_events, tell
from core.ports import Database
from sightings.forgetting import forget_subject
from tests.builders.api import ADMIN, Platform, camera_view, services
from tests.builders.live import WAIT_S, following, reading, told
from tests.builders.sightings import ALICE, BOB, NOW_S, arrival

ClientMaker = Callable[..., Awaitable[TestClient]]


@pytest.fixture
async def behind(db: Database, platform: Platform) -> AsyncIterator[ApiServices]:
    parts = services(db, platform=platform)
    async with reading(parts.events):
        yield parts


# --- the stream ----------------------------------------------------------------------------------------------------------------


async def test_events_arrive_and_resume_where_the_client_left_on_another_server(
    client: TestClient, behind: ApiServices, aiohttp_client: ClientMaker
) -> None:
    async with following(client) as stream:
        assert stream.response.content_type == "text/event-stream"
        await behind.sightings.upsert([arrival("a", subject="alice"), arrival("b", first_s=1)], now_s=NOW_S)
        first, kind, data = await stream.next()
        assert (kind, data["subject"], data["revision"]) == ("sighting", "Alice", 1)
    other = services(behind.db)
    async with reading(other.events):
        elsewhere = await aiohttp_client(build_app(other), headers=ADMIN)
        async with following(elsewhere, headers={"Last-Event-ID": first}) as stream:
            assert (await stream.next())[2]["outcome"] == "stranger"
            await behind.sightings.upsert([arrival("c")], now_s=NOW_S)
            assert (await stream.next())[2]["sighting_id"] == arrival("c").sighting.sighting_id


async def test_the_past_is_read_in_pages_and_joins_the_present_without_a_gap(client: TestClient, behind: ApiServices) -> None:
    await told(behind.db, 1200)
    async with following(client, "?last_event_id=0") as stream:
        await told(behind.db, 100)
        ids = [int((await stream.next())[0]) for _ in range(1300)]
    assert ids == list(range(1, 1301))


@pytest.mark.parametrize("last_id", ["elsewhere-7", "-1", "9" * 18, "9" * 50, "1.5", "%C2%B2"])
async def test_an_id_of_another_log_means_reading_lists_again(client: TestClient, last_id: str) -> None:
    async with following(client, f"?last_event_id={last_id}") as stream:
        assert (await stream.next())[1] == "reset"


async def test_an_id_that_is_older_than_what_is_kept_means_reading_lists_again(client: TestClient, behind: ApiServices) -> None:
    await told(behind.db, 3)
    await db_age(behind.db, 2)
    async with following(client, "?last_event_id=1") as stream:
        assert (await stream.next())[1] == "reset"
    async with following(client, "?last_event_id=2") as stream:
        assert await stream.next() == ("3", "gallery", {"id": "g3", "revision": 3, "camera": None, "collection": None, "watchlist": None})


async def db_age(db: Database, upto: int) -> None:
    await db.execute("update event set at = now() - interval '8 days' where event_id <= $1", upto)
    await expire_events(db, timedelta(days=7))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?last_event_id=0&kinds=sighting", ["a", "b", "c"]),
        ("?last_event_id=0&kinds=sighting&camera=hall", ["b"]),
        (f"?last_event_id=0&subject={ALICE}", ["a"]),
        ("?last_event_id=0&subject=Bob&kinds=sighting,alert", ["b"]),
    ],
)
async def test_filters(client: TestClient, behind: ApiServices, query: str, expected: list[str]) -> None:
    arrivals = [arrival("a", subject="alice"), arrival("b", camera="hall", subject="bob", first_s=1), arrival("c", first_s=2)]
    await behind.sightings.upsert(arrivals, now_s=NOW_S)
    async with following(client, query) as stream:
        got = [(await stream.next())[2]["sighting_id"] for _ in expected]
    assert got == [arrival(track).sighting.sighting_id for track in expected]


async def test_news_leaves_out_newer_figures(client: TestClient, behind: ApiServices) -> None:
    for revision in (1, 2, 3):
        await behind.sightings.upsert([arrival("a", revision=revision, closed=revision == 3)], now_s=NOW_S)
    async with following(client, "?last_event_id=0&news=true") as stream:
        assert (await stream.next())[0] == "3"  # 1 and 3 are about one row: the last one is sent


@pytest.mark.parametrize("query", ["?kinds=rumour", "?kinds=", "?camera=", "?news=maybe", "?since=1"])
async def test_a_filter_that_makes_no_sense_is_refused(client: TestClient, query: str) -> None:
    assert (await client.get(f"/v1/events{query}")).status == 400


async def test_an_erased_person_is_not_told_any_more_and_lists_hear_of_it(client: TestClient, behind: ApiServices) -> None:
    await behind.sightings.upsert([arrival("a", subject="alice")], now_s=NOW_S)
    await behind.events.caught_up()
    async with following(client) as stream:
        assert await forget_subject(behind.db, ALICE) == 1
        _, kind, data = await stream.next()
        assert (kind, data["outcome"], data["subject"], data["reason"]) == ("sighting", "stranger", None, "erased")
    async with following(client, "?last_event_id=0") as stream:
        assert (await stream.next())[2]["subject"] is None


async def test_cameras_are_told_when_their_state_changes(client: TestClient, behind: ApiServices, platform: Platform) -> None:
    platform.cameras = [camera_view("door", state="connecting")]
    teller = asyncio.create_task(tell_cameras(behind.db, platform.list_cameras))
    async with following(client, "?kinds=camera") as stream:
        async with asyncio.timeout(WAIT_S):
            while not await behind.db.fetch("select from event_reader where name = 'camera states'"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await asyncio.sleep(0)
        platform.cameras = [camera_view("door", state="up")]
        _, kind, data = await stream.next()
        assert (kind, data["name"], data["state"]) == ("camera", "door", "up")
    teller.cancel()


# --- grants --------------------------------------------------------------------------------------------------------------------


def as_principal(behind: ApiServices, who: Principal) -> web.Application:
    """Return the API as one principal sees it, whoever asks."""
    app = build_app(behind)

    @web.middleware
    async def is_who(request: web.Request, handler: Any) -> web.StreamResponse:
        request[PRINCIPAL] = who
        return await handler(request)

    app.middlewares.append(is_who)
    return app


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, ["a", "b"]),
        ({"camera_groups": frozenset({"outside"})}, ["a"]),
        ({"camera_groups": frozenset({"none"})}, []),
        ({"collections": frozenset({"default"})}, ["a", "b"]),
        ({"collections": frozenset({"other"})}, []),
        ({"permissions": frozenset({"sightings.read"})}, ["a", "b"]),
    ],
)
async def test_nobody_is_told_what_they_may_not_see(
    behind: ApiServices, aiohttp_client: ClientMaker, limits: dict[str, Any], expected: list[str]
) -> None:
    for name, groups in (("door", ["outside"]), ("hall", ["inside"])):
        await behind.db.execute(
            "insert into camera (name, url_encrypted, url_redacted, region, gate, groups) values ($1, '', '', 'default', '{}', $2)",
            name,
            groups,
        )
    who = dataclasses.replace(ADMINISTRATOR, **limits)
    limited = await aiohttp_client(as_principal(behind, who), headers=ADMIN)
    arrivals = [arrival("a", subject="alice"), arrival("b", camera="hall", subject="bob", first_s=1)]
    ids = {arrival(track).sighting.sighting_id: track for track in "ab"}
    async with following(limited) as live:
        await behind.sightings.upsert(arrivals, now_s=NOW_S)
        await told(behind.db, 1)
        await told(behind.db, 1, watchlist="secret")
        async with following(limited, "?last_event_id=0") as past:
            for stream in (live, past):
                got = [ids[(await stream.next())[2]["sighting_id"]] for _ in expected]
                assert got == expected
                if who.may("subjects.read"):  # a mark behind all of them: nothing else came
                    assert (await stream.next())[2]["id"] == "g1"


async def test_a_watchlist_that_is_not_granted_is_not_told(behind: ApiServices, aiohttp_client: ClientMaker) -> None:
    who = dataclasses.replace(ADMINISTRATOR, watchlists=frozenset({"mine"}))
    limited = await aiohttp_client(as_principal(behind, who), headers=ADMIN)
    for watchlist in ("yours", "mine"):
        await told(behind.db, 1, watchlist=watchlist)
    async with following(limited, "?last_event_id=0") as stream:
        assert (await stream.next())[2]["watchlist"] == "mine"


# --- letting go ----------------------------------------------------------------------------------------------------------------


async def test_streams_end_when_the_server_stops(client: TestClient, behind: ApiServices) -> None:
    async with following(client) as stream:
        behind.events.close()
        async with asyncio.timeout(WAIT_S):
            await stream.response.content.read()


async def test_a_burst_is_read_from_the_log_and_nothing_is_left_out(behind: ApiServices) -> None:
    with behind.events.subscribe(Wanted(), ADMINISTRATOR) as subscription:
        await told(behind.db, 2)
        taken = await subscription.next(WAIT_S)
        await told(behind.db, 3 * CLIENT_EVENTS)
        await behind.events.caught_up()
        assert subscription.live is False
        await told(behind.db, 5)
        while len(taken) < 3 * CLIENT_EVENTS + 7:
            taken += await subscription.next(WAIT_S)
    assert [one.event.event_id for one in taken] == list(range(1, 3 * CLIENT_EVENTS + 8))


async def test_who_comes_up_while_others_are_being_told_misses_nothing(db: Database) -> None:
    """What is handed out is read for those who were there when that began; who resumes meanwhile wants something else."""
    looking, told_on = asyncio.Event(), asyncio.Event()

    async def look_at_jobs(keys: Sequence[str]) -> dict[str, ChangeView]:
        looking.set()
        await told_on.wait()
        return {key: ChangeView(id=key, revision=1) for key in keys}

    viewer = services(db).events.viewer
    async with reading(EventHub(dataclasses.replace(viewer, others={"job": look_at_jobs}))) as hub:
        with hub.subscribe(Wanted(kinds=frozenset({"job"})), ADMINISTRATOR):
            async with db.transaction() as tx:
                await tell(tx, "job", [("j", 1)])
                await tell(tx, "gallery", [("g", 1)])
            await asyncio.wait_for(looking.wait(), WAIT_S)
            with hub.subscribe(Wanted(kinds=frozenset({"gallery"})), ADMINISTRATOR, after=0) as late:
                assert await late.next(0) == []
                told_on.set()
                assert [one.event.key for one in await late.next(WAIT_S)] == ["g"]


async def test_a_client_that_falls_too_far_behind_is_let_go_and_holds_nothing(behind: ApiServices) -> None:
    with behind.events.subscribe(Wanted(), ADMINISTRATOR) as slow:
        await told(behind.db, MAX_BEHIND + 1)
        await behind.events.caught_up()
        assert (await slow.next(0), slow.behind, slow.ended) == ([], True, True)


async def test_who_is_let_go_is_cut_off(client: TestClient, behind: ApiServices) -> None:
    async with following(client) as stream:
        for one in behind.events.clients:
            one.let_go()
        with pytest.raises(ClientPayloadError):
            await asyncio.wait_for(stream.response.content.read(), WAIT_S)


async def test_only_so_many_clients(behind: ApiServices) -> None:
    opened = [behind.events.subscribe(Wanted(), ADMINISTRATOR) for _ in range(MAX_CLIENTS)]
    for one in opened:
        one.__enter__()
    with pytest.raises(BusyError, match=f"events: {MAX_CLIENTS} clients are connected"), behind.events.subscribe(Wanted(), ADMINISTRATOR):
        pass
    opened[0].__exit__(None, None, None)
    with behind.events.subscribe(Wanted(), ADMINISTRATOR):
        pass


async def test_a_stop_waits_until_all_is_handed_out(behind: ApiServices) -> None:
    with behind.events.subscribe(Wanted(), ADMINISTRATOR) as subscription:
        await told(behind.db, 20)
        async with asyncio.timeout(WAIT_S):
            await behind.events.caught_up()
        assert len(await subscription.next(0)) == 20


async def test_the_reader_goes_on_when_its_connections_were_cut(behind: ApiServices) -> None:
    with behind.events.subscribe(Wanted(), ADMINISTRATOR) as subscription:
        await behind.db.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'listen%' and pid <> pg_backend_pid()"
        )
        await told(behind.db, 1)
        async with asyncio.timeout(WAIT_S):
            while not (got := await subscription.next(1)):
                continue
        assert [one.event.key for one in got] == ["g1"]


async def test_a_reader_that_has_not_begun_says_so(db: Database) -> None:
    hub: EventHub = services(db).events
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await hub.begun()


# --- WebSocket -----------------------------------------------------------------------------------------------------------------


async def test_a_websocket_gets_events_and_resumes(client: TestClient, behind: ApiServices) -> None:
    async with client.ws_connect("/v1/events/ws") as socket:
        assert await socket.receive_json(timeout=WAIT_S) == {"type": "ready"}
        await behind.sightings.upsert([arrival("a", subject="bob"), arrival("b", first_s=1)], now_s=NOW_S)
        first = await socket.receive_json(timeout=WAIT_S)
        assert {name: first[name] for name in ("type", "kind", "news")} == {"type": "event", "kind": "sighting", "news": True}
        assert first["data"]["subject_id"] == BOB
    async with client.ws_connect(f"/v1/events/ws?last_event_id={first['event_id']}") as socket:
        assert (await socket.receive_json(timeout=WAIT_S))["type"] == "ready"
        assert (await socket.receive_json(timeout=WAIT_S))["data"]["outcome"] == "stranger"
    async with client.ws_connect("/v1/events/ws?last_event_id=no") as socket:
        assert await socket.receive_json(timeout=WAIT_S) == {"type": "reset"}


@pytest.mark.parametrize(("sent", "code"), [("hello", 1003), ("x" * 2000, 1009)])
async def test_a_websocket_client_has_nothing_to_say(client: TestClient, sent: str, code: int) -> None:
    async with client.ws_connect("/v1/events/ws") as socket:
        await socket.receive_json(timeout=WAIT_S)
        await socket.send_str(sent)
        message = await socket.receive(timeout=WAIT_S)
        assert message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED)
        assert socket.close_code == code


async def test_a_websocket_closes_with_a_reason_that_says_what_to_do(client: TestClient, behind: ApiServices) -> None:
    async with client.ws_connect("/v1/events/ws") as socket:
        await socket.receive_json(timeout=WAIT_S)
        behind.events.close()
        await socket.receive(timeout=WAIT_S)
        assert socket.close_code == 1001
    async with client.ws_connect("/v1/events/ws") as socket:
        await socket.receive_json(timeout=WAIT_S)
        for one in behind.events.clients:
            one.let_go()
        await socket.receive(timeout=WAIT_S)
        assert socket.close_code == 4008


async def test_a_websocket_of_another_site_is_refused(client: TestClient) -> None:
    with pytest.raises(WSServerHandshakeError) as refused:
        await client.ws_connect("/v1/events/ws", origin="https://elsewhere.example")
    assert refused.value.status == 403
    async with client.ws_connect("/v1/events/ws", origin=f"http://{client.host}:{client.port}") as socket:
        assert await socket.receive_json(timeout=WAIT_S) == {"type": "ready"}


async def test_a_websocket_needs_who_asks_and_an_upgrade(client: TestClient, behind: ApiServices, aiohttp_client: ClientMaker) -> None:
    response = await client.get("/v1/events/ws")
    assert (response.status, response.headers["Upgrade"]) == (426, "websocket")
    assert (await response.json())["error"]["code"] == "upgrade_required"
    stranger = await aiohttp_client(build_app(behind))
    with pytest.raises(WSServerHandshakeError) as refused:
        await stranger.ws_connect("/v1/events/ws")
    assert refused.value.status == 401
