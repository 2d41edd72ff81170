"""Counts recent attempts to log in, in PostgreSQL, so that all processes share the counts.

One statement counts an attempt before the password is checked, so concurrent guesses cannot pass a limit that
sequential ones would not. A successful log-in subtracts its attempt again. The keys are hashes, since people type
passwords into the wrong field. Each attempt deletes expired rows, so the table holds a quarter of an hour's attempts.
"""

from collections.abc import Sequence
from hashlib import sha256

from django.db import connection

from coupons.api.client_address import Address, counted_as

WINDOW_SEC = 15 * 60
BROWSER_LIMIT, ADDRESS_LIMIT, NAME_LIMIT, TOTAL_LIMIT = ("browser", 10), ("address", 20), ("name", 30), ("all", 300)

COUNT = """
INSERT INTO coupons_logincount AS counted (key, attempts, until)
VALUES (%(key)s, 1, now() + make_interval(secs => %(window)s))
ON CONFLICT (key) DO UPDATE SET
    attempts = CASE WHEN counted.until <= now() THEN 1 ELSE least(counted.attempts + 1, 1000000) END,
    until = CASE WHEN counted.until <= now() THEN now() + make_interval(secs => %(window)s) ELSE counted.until END
RETURNING attempts, extract(epoch FROM until - now())
"""
GIVE_BACK = "UPDATE coupons_logincount SET attempts = attempts - 1 WHERE key = ANY(%s) AND attempts > 0"
DELETE_EXPIRED = "DELETE FROM coupons_logincount WHERE until <= now()"


class TooManyAttempts(Exception):
    def __init__(self, limit: str, wait_sec: float) -> None:
        super().__init__(limit)
        self.limit = limit
        self.wait_sec = wait_sec


def count_attempt(*, name: str, address: Address | None, browser: str | None) -> Sequence[str]:
    """Returns the keys under which the attempt was counted, for `give_back`. Raises TooManyAttempts.

    A browser in which this user has logged in before has a limit of its own that no other browser can use up, so
    guessing does not lock the user out. All others share the limits of their address, of the name and of all attempts.
    Counting stops at the first limit in this order, so one address cannot use up a name's limit.
    """
    keys: list[str] = []
    with connection.cursor() as cursor:
        cursor.execute(DELETE_EXPIRED)
        for (what, limit), value in _counters(name, address, browser):
            key = sha256(f"{what}:{value}".encode()).hexdigest()
            cursor.execute(COUNT, {"key": key, "window": WINDOW_SEC})
            attempts, wait_sec = cursor.fetchone()
            if attempts > limit:
                raise TooManyAttempts(what, float(wait_sec))
            keys.append(key)
    return keys


def give_back(keys: Sequence[str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(GIVE_BACK, [list(keys)])


def _counters(name: str, address: Address | None, browser: str | None) -> list[tuple[tuple[str, int], str]]:
    if browser is not None:
        return [(BROWSER_LIMIT, browser)]
    shared = [(NAME_LIMIT, name.casefold()), (TOTAL_LIMIT, "")]
    whole = counted_as(address)
    return shared if whole is None else [(ADDRESS_LIMIT, whole), *shared]
