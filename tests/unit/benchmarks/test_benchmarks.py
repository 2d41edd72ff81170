"""The pure parts of benchmarks/: figures, marks, the demo's verdict, what the clients found, command lines."""

import math

import pytest

from benchmarks import __main__ as bench
from benchmarks import demo
from benchmarks.checkout import Plan
from benchmarks.crowd import Answer
from benchmarks.demo import find_faults
from benchmarks.figures import Mark, median_ratio, number, percentile
from benchmarks.load import read_results
from coupons.models import Coupon


def accepted(user_id: str, sequence: int) -> Answer:
    return Answer(user_id, 0.0, 202, "", sequence)


def refused(user_id: str) -> Answer:
    return Answer(user_id, 0.0, 409, "sold-out", None)


def coupon(user_id: str, sequence: int) -> Coupon:
    return Coupon(user_id=user_id, sequence=sequence, code=f"code-{sequence}")


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (99, 99), (100, 100), (1, 1), (0, 1)])
def test_a_percentile_is_the_nearest_rank(percent: float, expected: float) -> None:
    assert percentile(list(range(100, 0, -1)), percent) == expected


def test_a_percentile_of_one_or_no_value() -> None:
    assert percentile([7.0], 99) == 7.0
    assert math.isnan(percentile([], 50))


def test_a_ratio_is_taken_within_each_repeat_before_the_median() -> None:
    # the machine was half as fast in the second repeat, for both sides
    assert median_ratio([100, 50, 120], [200, 100, 200]) == 0.5


@pytest.mark.parametrize(
    ("value", "at_least", "reached"),
    [(0.45, True, True), (0.44, True, False), (0.45, False, True), (0.46, False, False)],
)
def test_a_mark_is_reached_at_its_limit(value: float, at_least: bool, reached: bool) -> None:
    mark = Mark("refusals", value, 0.45, "x", at_least=at_least)
    assert mark.reached is reached
    assert str(mark).endswith("x): reached" if reached else "x): NOT reached")


def test_a_mark_of_no_number_is_not_reached() -> None:
    assert not Mark("refusals", math.nan, 0.45, "x").reached


def test_a_campaign_that_kept_its_promise_has_no_faults() -> None:
    answers = [accepted("b", 1), accepted("a", 2), refused("c")]
    assert find_faults(answers=answers, coupons=[coupon("b", 1), coupon("a", 2)], users=3, quantity=2) == []


def test_fewer_users_than_coupons_all_get_one() -> None:
    assert find_faults(answers=[accepted("a", 1)], coupons=[coupon("a", 1)], users=1, quantity=5) == []


@pytest.mark.parametrize(
    ("answers", "coupons", "fault"),
    [
        ([accepted("a", 1), refused("b")], [], "1 users were promised and have no coupon"),
        ([refused("a"), refused("b")], [coupon("a", 1)], "1 users have a coupon and were not promised"),
        ([accepted("a", 2), refused("b")], [coupon("a", 1)], "another sequence"),
        ([accepted("a", 2), refused("b")], [coupon("a", 2)], "sequences are not 1 to 1"),
        ([accepted("a", 1), accepted("b", 2)], [coupon("a", 1), coupon("b", 2)], "2 coupons were written, expected 1"),
        ([accepted("a", 1)], [coupon("a", 1)], "1 of 2 users got an answer"),
        ([accepted("a", 1), Answer("b", 0.0, 503, "unconfirmed", None)], [coupon("a", 1)], "503 unconfirmed"),
        ([accepted("a", 1), Answer("b", 0.0, 0, "timeout", None)], [coupon("a", 1)], "no answer (timeout)"),
    ],
)
def test_each_broken_promise_is_named(answers: list[Answer], coupons: list[Coupon], fault: str) -> None:
    assert any(fault in text for text in find_faults(answers=answers, coupons=coupons, users=2, quantity=1))


def test_the_commands_have_the_documented_defaults() -> None:
    options = demo.parse([])
    assert (options.users, options.quantity, options.threads) == (1000, 100, 32)
    assert bench.parse([]).repeats == 3
    assert bench.parse(["--quick"]).repeats == 1
    with pytest.raises(SystemExit, match="2"):
        demo.parse(["--users", "0"])


def test_an_open_loop_counts_from_when_a_request_was_due() -> None:
    """Ten a second; the third was sent 50 ms late and answered 20 ms after that."""
    second = 1_000_000_000
    sent = [second, second + 100_000_000, second + 250_000_000]
    rows = "\n".join(f"{at},202,20000000,0,0,,,,{number},POST,http://x,," for number, at in enumerate(sent))
    opened = read_results(rows, per_sec=10)
    assert opened.waits_ms == {"202": pytest.approx([20, 20, 70])}
    assert opened.late_ms == pytest.approx([0, 0, 50])
    assert opened.seconds == pytest.approx(0.27)
    assert opened.per_sec("202") == pytest.approx(3 / 0.27)
    assert opened.spread("503") == {}


def test_without_a_rate_a_request_is_due_when_sent() -> None:
    rows = "1000000000,202,20000000,0,0,,,,0,POST,http://x,,\n1500000000,503,30000000,0,0,,,,1,POST,http://x,,"
    opened = read_results(rows, per_sec=0)
    assert opened.waits_ms == {"202": pytest.approx([20]), "503": pytest.approx([30])}
    assert opened.outcomes == {"202": 1, "503": 1}


def test_a_loop_counts_who_got_no_answer() -> None:
    rows = '5,0,10000000,0,0,"dial tcp: refused",,,0,POST,http://x,,'
    assert read_results(rows, per_sec=1).outcomes == {"no answer: dial tcp: refused": 1}


@pytest.mark.parametrize(("value", "text"), [(0.12345, "0.123"), (12.345, "12.3"), (1234.5, "1,234"), (0, "0")])
def test_a_number_has_three_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (100, "20 redeemed, 10 held and 8 of them confirmed, 1 returned"),
        (1, "1 redeemed, 0 held and 0 of them confirmed, 1 returned"),
        (0, "0 redeemed, 0 held and 0 of them confirmed, 0 returned"),
    ],
)
def test_the_demo_s_shop_uses_a_part_of_the_coupons(count: int, text: str) -> None:
    plan = Plan.of([coupon(str(number), number) for number in range(count)])

    assert str(plan) == text
    assert not {each.user_id for each in plan.redeemed} & {each.user_id for each in plan.held}
