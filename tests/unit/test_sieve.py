"""What the sieve puts aside changes no answer: beside it, the books with everything in them are asked the same."""

from collections.abc import Iterator
from contextlib import closing
from random import Random

import pytest

from coupons.messaging.positions import PARTITION_STEP
from coupons.reconciliation import questions, sequences, sheets, sieve
from coupons.reconciliation.books import Books, EventRow, MessageRow
from coupons.reconciliation.sheets import Binder, Sheet, parts_for
from coupons.reconciliation.sieve import Messages, Sources, sift

VALUES: dict[str, str | float] = {"latest": 500, "positions": PARTITION_STEP, "next_sequence": 14}
LISTS = (
    "LOST", "PENDING_AND_READ", "PENDING_WITHOUT_MESSAGE", "WRITTEN_AND_PENDING", "PENDING_WITHOUT_TICKET",
    "COUPON_WITHOUT_TICKET", "FAILED_WITHOUT_TICKET", "UNREAD_AND_NOT_HELD", "READ_WITHOUT_A_TRACE",
    "SUCCESS_WITHOUT_COUPON", "STUCK", "USER_TWICE", "OTHER_SEQUENCE", "SEQUENCE_TWICE", "HOLES",
)  # fmt: skip
SCORES = (100.0, 900.0, float(PARTITION_STEP + 3))

Rows = dict[str, list[tuple[object, ...]]]
Answers = dict[str, object]


def some_rows(chance: Random) -> Rows:
    """A campaign of a dozen users: most of them well, and everything that can be wrong with the others."""
    rows: Rows = {name: [] for name in ("tickets", "pending", "events", "coupons", "read", "unread", "late")}
    for number in range(1, 13):
        user, own = f"user-{number}", (f"user-{number}", number)
        if chance.random() < 0.6:
            rows["tickets"].append(own)
            if chance.random() < 0.5:
                rows["coupons"].append(own)
                rows[chance.choice(("read", "unread"))].append(own)
            else:
                rows["pending"].append((user, float(PARTITION_STEP + number)))
                rows[chance.choice(("unread", "late"))].append(own)
            if chance.random() < 0.7:
                continue
        for name, share in (("tickets", 0.5), ("coupons", 0.4), ("read", 0.3), ("unread", 0.3), ("late", 0.2)):
            while chance.random() < share:
                rows[name].append((user, chance.choice((number, number, chance.randint(1, 16)))))
        while chance.random() < 0.3:
            rows["pending"].append((user, chance.choice(SCORES)))
        while chance.random() < 0.3:
            rows["events"].append((user, number, chance.random() < 0.5, chance.random() < 0.7, chance.random() < 0.2))
    for each in rows.values():
        chance.shuffle(each)
    return rows


def asked(books: Books) -> Answers:
    """Every question's answer, the lists without their order."""
    answers: Answers = {}
    for name in LISTS:
        query = getattr(questions, name)
        answers[name] = sorted(books.rows(query, **{key: VALUES[key] for key in VALUES if f":{key}" in query}))
    for name in ("NUMBERS", "UNREAD", "SPAN", "HIGHEST"):
        answers[name] = [number or 0 for number in books.numbers(getattr(questions, name))]
    return answers


def without_sieve(rows: Rows) -> Answers:
    with closing(Books()) as books:
        books.write_tickets(rows["tickets"])  # type: ignore[arg-type]
        books.write_pending(rows["pending"])  # type: ignore[arg-type]
        books.write_events(EventRow(*row) for row in rows["events"])  # type: ignore[arg-type]
        books.write_coupons(rows["coupons"])  # type: ignore[arg-type]
        for name, is_unread, is_late in (("read", False, False), ("unread", True, False), ("late", True, True)):
            books.write_messages(MessageRow(*row, is_unread, is_late) for row in rows[name])  # type: ignore[call-arg, arg-type]
        books.sort()
        return asked(books)


def with_sieve(rows: Rows, parts: int) -> tuple[Answers, int]:
    """And how many tickets were put aside."""
    with closing(Books()) as books, closing(Binder()) as binder:
        messages = Messages(binder, parts)
        sources = Sources(binder, messages)
        sheets_by_name: dict[str, Sheet] = {
            name: getattr(sources, name, None) or getattr(messages, name) for name in rows
        }
        for name, sheet in sheets_by_name.items():
            for row in rows[name]:
                sheet.add([row])
        plain = sift(sources, books)
        answers = asked(books)
    numbers, unread = answers["NUMBERS"], answers["UNREAD"]
    assert isinstance(numbers, list)
    assert isinstance(unread, list)
    tickets, issued, failed, pending = numbers
    answers["NUMBERS"] = [
        tickets + plain.issued + plain.pending, issued + plain.issued, failed, pending + plain.pending
    ]  # fmt: skip
    answers["UNREAD"] = [unread[0] + plain.unread]
    return answers, plain.issued + plain.pending


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("rows_held", [3, 100_000])
def test_every_question_has_the_answer_that_it_has_without_the_sieve(
    parts: int, rows_held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheets, "ROWS_HELD", rows_held)
    named: set[str] = set()
    put_aside = 0
    for number in range(150):
        rows = some_rows(Random(f"2026.{number}"))
        expected = without_sieve(rows)
        found, plain = with_sieve(rows, parts)

        assert found == expected, f"seed {number}: {rows}"
        named |= {name for name in LISTS if expected[name]}
        put_aside += plain
    assert named == set(LISTS), "each question had something to tell"
    assert put_aside > 150, "and there was something to put aside"


def test_tickets_beyond_the_map_of_sequences_are_looked_at_in_the_books(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sieve, "LIMIT", 8)
    monkeypatch.setattr(sequences, "LIMIT", 8)
    rows: Rows = {name: [] for name in ("pending", "events", "read", "unread", "late")}
    rows["tickets"] = rows["coupons"] = [(f"user-{number}", number) for number in (1, 2, 3, 9, 11, 12, -4)]
    found, plain = with_sieve(rows, 1)

    assert found == without_sieve(rows)
    assert plain == 3


@pytest.fixture
def binder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Binder]:
    monkeypatch.setattr(sheets, "ROWS_HELD", 10)
    with closing(Binder()) as binder:
        yield binder


def all_rows(sheet: Sheet, parts: int) -> list[sheets.Row]:
    return [row for number in range(parts) for row in sheet.part(number)]


def test_a_sheet_gives_back_what_it_was_given_from_disk_and_from_memory(binder: Binder) -> None:
    one, other = binder.sheet(4), binder.sheet(4)
    rows = [(f"user\n{number} é", number - 30) for number in range(53)]
    for row in rows:
        one.add([row])
        other.add([(row[0], row[1], True)])

    assert sorted(all_rows(one, 4)) == sorted(rows)
    assert sorted(all_rows(other, 4)) == sorted((*row, True) for row in rows)
    assert [row for row in one.part(1) if row in other.part(2)] == [], "a user is in the part of one number"


def test_parts_grow_with_the_campaign_and_end_somewhere() -> None:
    assert [parts_for(users) for users in (0, 100, 32_769, 1_000_000, 10**12)] == [1, 1, 2, 32, 512]
