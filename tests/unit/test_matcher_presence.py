"""When is a generation of the gallery seen by every search?"""

import pytest

from core.topology import ShardId
from matcher.presence import LIVE_S, Replica, living, why_not_visible


def replica(shard: int, total: int, generation: int, *, ready: bool = True, silent_s: float = 0.0) -> Replica:
    return Replica(
        name=f"m{shard}/{total}",
        host="h",
        pid=1,
        shard=ShardId(shards_total=total, shard=shard),
        generation=generation,
        references=1,
        ready=ready,
        silent_s=silent_s,
    )


@pytest.mark.parametrize(
    ("replicas", "problem"),
    [
        ([replica(0, 1, 7)], ""),
        ([replica(0, 2, 7), replica(1, 2, 8), replica(1, 2, 9)], ""),
        ([replica(0, 2, 7), replica(1, 2, 6)], "m1/2 (shard 1/2) is at 6"),
        ([replica(0, 2, 7), replica(1, 2, 7), replica(1, 2, 6)], "m1/2 (shard 1/2) is at 6"),
        ([replica(0, 2, 7)], "no matcher is ready for shard 1/2"),
        ([replica(0, 2, 6)], "m0/2 (shard 0/2) is at 6; no matcher is ready for shard 1/2"),
        ([replica(0, 2, 7), replica(1, 2, 7), replica(0, 3, 7)], ""),  # a layout that begins: the other is whole
        ([replica(0, 2, 7), replica(1, 3, 7), replica(2, 3, 7)], ""),  # both have gaps, together they have none
        ([replica(0, 2, 7), replica(1, 2, 7), replica(0, 3, 6)], "m0/3 (shard 0/3) is at 6"),  # it answers, so it must know
        ([replica(0, 1, 7), replica(0, 1, -1, ready=False)], ""),  # who still loads answers nobody
        ([replica(0, 1, 9, ready=False)], "no matcher is ready yet: m0/1 loads shard 0/1"),
    ],
)
def test_a_generation_is_visible_when_all_who_answer_have_it_and_hold_every_bucket(replicas: list[Replica], problem: str) -> None:
    assert why_not_visible(replicas, 7) == problem


@pytest.mark.parametrize(
    ("silent_s", "server_s", "alive"),
    [
        ([0.1, 4.9], 3600.0, [0.1, 4.9]),
        ([0.1, 5.1], 3600.0, [0.1]),
        ([0.5, 60.0, 64.0, 66.0], 2.0, [0.5, 60.0, 64.0]),  # down for 58 s: two lived when it stopped, one had died before
        ([0.5, 60.0, 64.0], LIVE_S, [0.5]),  # they had their time
        ([], 2.0, []),
    ],
)
def test_who_lives_by_the_databases_clock(silent_s: list[float], server_s: float, alive: list[float]) -> None:
    replicas = [replica(0, 1, 7, silent_s=one) for one in silent_s]
    assert [one.silent_s for one in living(replicas, server_s)] == alive
