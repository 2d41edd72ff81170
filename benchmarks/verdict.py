"""Decides whether a campaign kept its promises, from the users' answers and the rows in PostgreSQL."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from benchmarks.crowd import Answer


class Row(NamedTuple):
    """A row of a coupon in PostgreSQL."""

    user_id: str
    sequence: int
    code: str
    issued_at: datetime


def find_faults(*, answers: Sequence[Answer], rows: Sequence[Row], users: int, quantity: int) -> list[str]:
    """Lists every way in which the promise was broken."""
    expected = min(users, quantity)
    told = {answer.user_id: answer.sequence for answer in answers if answer.admitted}
    written = {row.user_id: row.sequence for row in rows}
    unexpected = Counter(
        f"{answer.status} {answer.code}".strip() if answer.status else f"no answer ({answer.code})"
        for answer in answers
        if not answer.admitted and (answer.status, answer.code) != (409, "sold-out")
    )
    checks = {
        f"{len(answers)} of {users} users got an answer": len(answers) == users,
        f"{len(told)} users were promised a coupon, expected {expected}": len(told) == expected,
        f"{len(rows)} coupons were written, expected {expected}": len(rows) == expected,
        f"the coupons belong to {len(written)} users, expected {expected}": len(written) == expected,
        f"the coupons have {len({row.code for row in rows})} codes": len({row.code for row in rows}) == len(rows),
        f"the sequences are not 1 to {expected}": sorted(written.values()) == list(range(1, expected + 1)),
        f"{len(told.keys() - written.keys())} users were promised and have no coupon": told.keys() <= written.keys(),
        f"{len(written.keys() - told.keys())} users have a coupon and were not promised": written.keys() <= told.keys(),
        "a user was promised another sequence than the coupon has": all(
            written.get(user_id, sequence) == sequence for user_id, sequence in told.items()
        ),
    }
    faults = [text for text, holds in checks.items() if not holds]
    return faults + [f"{count} users got the answer {text}" for text, count in unexpected.items()]
