"""Apply for a coupon, and repeat for as long as repeating can help; the standard library is enough.

API=http://127.0.0.1:8000/api/v1 TOKEN=... python apply.py CAMPAIGN USER
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from typing import Any

ATTEMPTS = 60
REPEAT = {429, 503}  # and whatever says when to come back: not open yet, paused


def apply(campaign: str, user: str) -> dict[str, Any]:
    """The place: {"status": "pending", "sequence": 1, "status_url": ...}. Raises HTTPError for a final refusal."""
    request = urllib.request.Request(  # noqa: S310  the address is yours
        f"{os.environ['API']}/campaigns/{campaign}/apply",
        data=json.dumps({"user_id": user}).encode(),
        headers={"Authorization": f"Bearer {os.environ['TOKEN']}", "Content-Type": "application/json"},
        method="POST",
    )
    for _ in range(ATTEMPTS):
        wait_sec = 1.0
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
                place: dict[str, Any] = json.load(answer)
                return place
        except urllib.error.HTTPError as error:
            told = error.headers.get("Retry-After")
            if told is None and error.code not in REPEAT:
                raise
            wait_sec = float(told or wait_sec)
        except OSError:  # a time-out, a broken connection: the place may have been taken, the repeat tells
            pass
        time.sleep(wait_sec)
    raise TimeoutError(f"no answer after {ATTEMPTS} attempts")


if __name__ == "__main__":
    try:
        print(json.dumps(apply(*sys.argv[1:3])))
    except urllib.error.HTTPError as problem:
        sys.exit(problem.read().decode())
