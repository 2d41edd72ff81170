"""The pure parts of benchmarks/: figures, marks, the demo's verdict, how load is dealt out, command lines."""

import math
from datetime import UTC, datetime

import pytest

from benchmarks import __main__ as bench
from benchmarks import demo, load, servers
from benchmarks.crowd import Answer
from benchmarks.figures import Mark, median_ratio, percentile, summarize
from benchmarks.load import Plan, Record, split
from benchmarks.verdict import Row, find_faults

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def record(*, start: float = 0.0, end: float = 1.0, status: int = 202, code: str = "", attempts: int = 1) -> Record:
    return Record("1", start, end, status, code, None, attempts, start)


def accepted(user_id: str, sequence: int) -> Answer:
    return Answer(user_id, 0.0, 202, "", sequence)


def refused(user_id: str) -> Answer:
    return Answer(user_id, 0.0, 409, "sold-out", None)


def row(user_id: str, sequence: int) -> Row:
    return Row(user_id, sequence, f"code-{sequence}", NOW)


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (99, 99), (100, 100), (1, 1), (0, 1)])
def test_a_percentile_is_the_nearest_rank(percent: float, expected: float) -> None:
    assert percentile(list(range(100, 0, -1)), percent) == expected


def test_a_percentile_of_one_value_is_that_value_and_of_none_is_not_a_number() -> None:
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


def test_a_summary_counts_final_answers_repeats_and_who_got_none() -> None:
    summary = summarize(
        [
            record(start=0.0, end=0.1),
            record(start=0.0, end=0.2, attempts=3),
            record(start=1.0, end=2.0, status=409, code="sold-out"),
            record(start=1.0, end=1.5, status=503, code="unconfirmed"),
            record(start=1.0, end=1.5, status=0, code="timeout"),
        ]
    )
    assert (summary.users, summary.requests, summary.unanswered) == (5, 7, 2)
    assert summary.seconds == 2.0
    assert summary.users_per_sec == 2.5
    assert summary.outcomes == {"202": 2, "409 sold-out": 1, "503 unconfirmed": 1, "no answer timeout": 1}
    assert summary.max_ms == pytest.approx(1000)


def test_a_summary_of_nothing_has_no_rate() -> None:
    assert summarize([]).users_per_sec == 0


def test_load_with_breaks_is_measured_by_the_time_that_it_lasted() -> None:
    assert summarize([record(start=0, end=1), record(start=99, end=100)], seconds=2).users_per_sec == 1


def test_a_split_load_covers_each_user_once() -> None:
    plans = split(Plan(host="", port=1, path="", api_key="", connections=64, users=1001, rate=300), 3)
    users = [plan.first_user + number * plan.step for plan in plans for number in range(plan.users or 0)]
    assert sorted(users) == list(range(1, 1002))
    assert sum(plan.connections for plan in plans) == 64
    assert sum(plan.rate or 0 for plan in plans) == pytest.approx(300)


def test_a_campaign_that_kept_its_promise_has_no_faults() -> None:
    answers = [accepted("b", 1), accepted("a", 2), refused("c")]
    assert find_faults(answers=answers, rows=[row("b", 1), row("a", 2)], users=3, quantity=2) == []


def test_fewer_users_than_coupons_all_get_one() -> None:
    assert find_faults(answers=[accepted("a", 1)], rows=[row("a", 1)], users=1, quantity=5) == []


@pytest.mark.parametrize(
    ("answers", "rows", "fault"),
    [
        ([accepted("a", 1), refused("b")], [], "1 users were accepted and have no coupon"),
        ([refused("a"), refused("b")], [row("a", 1)], "1 users have a coupon and were not accepted"),
        ([accepted("a", 2), refused("b")], [row("a", 1)], "another sequence"),
        ([accepted("a", 2), refused("b")], [row("a", 2)], "sequences are not 1 to 1"),
        ([accepted("a", 1), accepted("b", 2)], [row("a", 1), row("b", 2)], "2 coupons were written, expected 1"),
        ([accepted("a", 1)], [row("a", 1)], "1 of 2 users got an answer"),
        ([accepted("a", 1), Answer("b", 0.0, 503, "unconfirmed", None)], [row("a", 1)], "503 unconfirmed"),
        ([accepted("a", 1), Answer("b", 0.0, 0, "timeout", None)], [row("a", 1)], "no answer (timeout)"),
    ],
)
def test_each_broken_promise_is_named(answers: list[Answer], rows: list[Row], fault: str) -> None:
    assert any(fault in text for text in find_faults(answers=answers, rows=rows, users=2, quantity=1))


def test_the_commands_have_the_documented_defaults() -> None:
    options = demo.parse([])
    assert (options.users, options.quantity, options.threads) == (1000, 100, 32)
    assert bench.parse([]).repeats == 3
    assert bench.parse(["--quick"]).repeats == 1
    assert load.parse(["--url", "http://127.0.0.1:1", "--campaign", "x", "--users", "5"]).connections == 64


@pytest.mark.parametrize(
    "arguments",
    [
        ["--url", "http://127.0.0.1:1", "--campaign", "x"],  # neither --users nor --seconds
        ["--url", "ftp://127.0.0.1", "--campaign", "x", "--users", "5"],
        ["--url", "http://127.0.0.1:1", "--campaign", "x", "--users", "0"],
    ],
)
def test_the_load_client_refuses_what_it_cannot_do(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        load.parse(arguments)
    assert "error:" in capsys.readouterr().err


def test_a_server_to_compare_is_a_name_and_a_command() -> None:
    options = servers.parse(["--server", "two workers=COUPON_WEB_WORKERS=2 bin/web"])
    assert dict(options.server) == {"two workers": "COUPON_WEB_WORKERS=2 bin/web"}
