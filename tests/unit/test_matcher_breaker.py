"""Which shards are waited for, when a replica is asked too, and which questions travel together."""

import numpy as np
import pytest

from core.topology import ShardId
from matcher.breaker import SILENT_BATCHES, Breaker
from matcher.combining import Question, Together
from matcher.gathering import layout
from matcher.hedging import FEW, HedgeBudget, Latency
from tests.builders.matcher import unit_rows

FIRST, SECOND = layout(2)


class TestBreaker:
    @pytest.fixture
    def breaker(self) -> Breaker:
        breaker = Breaker()
        breaker.answered(FIRST, 1.0)
        return breaker

    def silent(self, breaker: Breaker, shard: ShardId, *asked_s: float) -> None:
        for one in asked_s:
            breaker.silent(shard, one)

    def test_one_answer_makes_its_layout_known(self, breaker: Breaker) -> None:
        assert breaker.expected == [FIRST, SECOND]

    def test_it_opens_after_silent_batches_in_a_row(self, breaker: Breaker) -> None:
        self.silent(breaker, SECOND, 2.0, 3.0)
        assert not breaker.is_open(SECOND)
        self.silent(breaker, SECOND, 4.0)
        assert (breaker.is_open(SECOND), breaker.expected, breaker.missing) == (True, [FIRST], 1)

    def test_the_first_answer_closes_it(self, breaker: Breaker) -> None:
        self.silent(breaker, SECOND, 2.0, 3.0, 4.0)
        breaker.answered(SECOND, 5.0)
        assert (breaker.is_open(SECOND), breaker.missing) == (False, 0)

    def test_an_answer_in_between_starts_the_count_again(self, breaker: Breaker) -> None:
        self.silent(breaker, SECOND, 2.0, 3.0)
        breaker.answered(SECOND, 4.0)
        self.silent(breaker, SECOND, 5.0, 6.0)
        assert not breaker.is_open(SECOND)

    def test_silence_to_a_batch_from_before_the_last_answer_says_nothing(self, breaker: Breaker) -> None:
        breaker.answered(SECOND, 9.0)
        self.silent(breaker, SECOND, *(8.0,) * SILENT_BATCHES)
        assert (breaker.is_open(SECOND), breaker.missing) == (False, 0)

    def test_a_late_answer_closes_it_too(self, breaker: Breaker) -> None:
        self.silent(breaker, SECOND, 2.0, 3.0, 4.0)
        breaker.answered(SECOND, 4.0)
        assert not breaker.is_open(SECOND)

    def test_a_silent_layout_is_forgotten_once_another_is_complete(self, breaker: Breaker) -> None:
        for shard in layout(3):
            breaker.answered(shard, 2.0)
        self.silent(breaker, FIRST, 3.0, 4.0, 5.0)
        self.silent(breaker, SECOND, 3.0, 4.0, 5.0)
        assert set(breaker.known) == set(layout(3))

    def test_the_only_layout_is_not_forgotten(self, breaker: Breaker) -> None:
        self.silent(breaker, FIRST, 2.0, 3.0, 4.0)
        self.silent(breaker, SECOND, 2.0, 3.0, 4.0)
        assert (set(breaker.known), breaker.missing, breaker.expected) == ({FIRST, SECOND}, 2, [])

    def test_unknown_shards_are_no_news(self) -> None:
        breaker = Breaker()
        breaker.silent(FIRST, 1.0)
        assert (list(breaker.known), breaker.missing) == ([], 0)


class TestHedging:
    def test_the_p95_of_few_answers_is_unknown(self) -> None:
        latency = Latency()
        for _ in range(FEW - 1):
            latency.add(0.01)
        assert latency.p95_s is None
        latency.add(0.01)
        assert latency.p95_s == 0.01

    def test_the_p95_follows_the_last_answers(self) -> None:
        latency = Latency()
        for number in range(1, 101):
            latency.add(number / 100)
        assert 0.85 <= (latency.p95_s or 0) <= 0.95
        for _ in range(256):
            latency.add(0.001)
        assert latency.p95_s == 0.001

    def test_hedges_are_a_small_share_of_the_questions(self) -> None:
        budget = HedgeBudget(share=0.05, burst=4)
        spent = 0
        for _ in range(1000):
            budget.earn(1)
            spent += budget.spend()
        assert spent == 50 + 4 - 1  # the burst's last token is never whole again

    def test_the_burst_is_bounded(self) -> None:
        budget = HedgeBudget(share=0.05, burst=4)
        budget.earn(1_000_000)
        assert sum(budget.spend() for _ in range(100)) == 4


class TestTogether:
    def test_rows_go_back_to_who_asked(self) -> None:
        rows = unit_rows(5, 4)
        together = Together[str](Question(model="m", collection="c", k=1, dimensions=4))
        together.join(rows[:2], "ann")
        together.join(rows[2:2], "nobody")
        together.join(rows[2:], "ben")
        np.testing.assert_array_equal(together.probes, rows)
        assert together.split([1, 2, 3, 4, 5]) == [("ann", [1, 2]), ("nobody", []), ("ben", [3, 4, 5])]

    def test_a_full_batch_takes_no_more(self) -> None:
        together = Together[str](Question(model="m", collection="c", k=1, dimensions=4))
        together.join(unit_rows(60, 4), "ann")
        assert together.fits(unit_rows(4, 4), 64)
        assert not together.fits(unit_rows(5, 4), 64)
