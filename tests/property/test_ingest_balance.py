"""Shares of cameras: complete, fair, stable, and reached with as few moves as can be."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ingest.balance import Held, Ingester, Move, balance, gives, takes

IDS = ["a", "b", "c", "d", "e"]
REGIONS = ["north", "south", "west"]


def fleet(holders: dict[str, Held], regions: dict[str, frozenset[str]], late: frozenset[str] = frozenset()) -> list[Ingester]:
    loads = Counter(held.holder for held in holders.values())
    return [Ingester(id=name, load=loads[name], regions=regions[name], takes=name not in late) for name in sorted(regions)]


def after(cameras: dict[str, Held], moves: tuple[Move, ...]) -> dict[str, Held]:
    moved = {move.camera: move.taker for move in moves}
    return {name: Held(region=held.region, holder=moved.get(name, held.holder)) for name, held in cameras.items()}


@st.composite
def alike(draw: st.DrawFn) -> tuple[list[str], dict[str, Held]]:
    """Ingesters that all serve everything, and cameras held by any of them or by nobody."""
    ids = draw(st.lists(st.sampled_from(IDS), min_size=1, unique=True))
    holders = draw(st.lists(st.sampled_from([None, *ids]), max_size=40))
    return ids, {f"cam-{number:02d}": Held(region="north", holder=holder) for number, holder in enumerate(holders)}


@st.composite
def mixed(draw: st.DrawFn) -> tuple[dict[str, frozenset[str]], dict[str, Held]]:
    """Ingesters of some regions each; a camera may be held by one that does not serve it (any more)."""
    ids = draw(st.lists(st.sampled_from(IDS), min_size=1, unique=True))
    regions = {name: draw(st.frozensets(st.sampled_from(REGIONS))) for name in ids}
    cameras = draw(st.lists(st.tuples(st.sampled_from(REGIONS), st.sampled_from([None, *ids])), max_size=40))
    return regions, {f"cam-{number:02d}": Held(region=region, holder=holder) for number, (region, holder) in enumerate(cameras)}


@given(alike())
def test_where_all_serve_all_every_camera_is_held_and_loads_differ_by_one(case: tuple[list[str], dict[str, Held]]) -> None:
    ids, cameras = case
    regions = dict.fromkeys(ids, frozenset[str]())
    held = after(cameras, balance(fleet(cameras, regions), cameras))
    assert all(item.holder in ids for item in held.values())
    loads = [ingester.load for ingester in fleet(held, regions)]
    assert max(loads) - min(loads) <= 1


@given(alike())
def test_no_plan_could_move_fewer(case: tuple[list[str], dict[str, Held]]) -> None:
    ids, cameras = case
    moves = balance(fleet(cameras, dict.fromkeys(ids, frozenset[str]())), cameras)
    loads = Counter(held.holder for held in cameras.values() if held.holder)
    free = sum(held.holder is None for held in cameras.values())
    low, high = len(cameras) // len(ids), -(-len(cameras) // len(ids))
    excess = sum(max(0, loads[name] - high) for name in ids)
    lacking = sum(max(0, low - loads[name]) for name in ids)
    assert sum(move.giver is None for move in moves) == free
    assert sum(move.giver is not None for move in moves) == max(excess, lacking - free)


@given(mixed())
def test_a_plan_is_complete_fair_and_never_gives_to_who_does_not_serve(case: tuple[dict[str, frozenset[str]], dict[str, Held]]) -> None:
    regions, cameras = case
    moves = balance(fleet(cameras, regions), cameras)
    held = after(cameras, moves)
    members = {ingester.id: ingester for ingester in fleet(held, regions)}
    assert all(members[move.taker].serves(cameras[move.camera].region) for move in moves)
    assert len({move.camera for move in moves}) == len(moves)
    for item in held.values():
        assert item.holder is not None or not any(ingester.serves(item.region) for ingester in members.values())
        if item.holder is None or not members[item.holder].serves(item.region):
            continue
        for other in members.values():
            assert not other.serves(item.region) or members[item.holder].load - other.load < 2


@given(mixed())
def test_what_is_fair_is_left_alone(case: tuple[dict[str, frozenset[str]], dict[str, Held]]) -> None:
    regions, cameras = case
    held = after(cameras, balance(fleet(cameras, regions), cameras))
    assert balance(fleet(held, regions), held) == ()


@given(mixed(), st.frozensets(st.sampled_from(IDS)))
def test_who_is_late_is_given_nothing(case: tuple[dict[str, frozenset[str]], dict[str, Held]], late: frozenset[str]) -> None:
    regions, cameras = case
    assert not late & {move.taker for move in balance(fleet(cameras, regions, late), cameras)}


@given(alike())
def test_ingesters_that_each_do_their_part_get_there(case: tuple[list[str], dict[str, Held]]) -> None:
    ids, cameras = case
    regions = dict.fromkeys(ids, frozenset[str]())
    goal = balance(fleet(cameras, regions), cameras)
    moved: set[str] = set()
    for _ in range(40):
        members = fleet(cameras, regions)
        moves = balance(members, cameras)
        if not moves:
            break
        for me in members:
            part = {name: None for name in gives(moves, me)} | dict.fromkeys(takes(moves, me), me.id)
            moved |= {name for name, holder in part.items() if holder is None}
            cameras = {name: Held(region=held.region, holder=part.get(name, held.holder)) for name, held in cameras.items()}
    assert not balance(fleet(cameras, regions), cameras)
    assert len(moved) <= sum(move.giver is not None for move in goal)
