"""Redeem a coupon for an order, and repeat for as long as repeating can help; the standard library is enough.

API=http://127.0.0.1:8000/api/v1 KEY=... python redeem.py CODE ORDER
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from typing import Any

ATTEMPTS = 10
REPEAT = {429, 503}  # the rest is an answer, also `held` with its Retry-After: no customer waits for that


def redeem(code: str, order: str) -> dict[str, Any]:
    """The redemption: {"id": ..., "status": "redeemed", ...}. Raises HTTPError for a refusal."""
    request = urllib.request.Request(  # noqa: S310  the address is yours
        f"{os.environ['API']}/redemptions",
        data=json.dumps({"code": code, "order_ref": order}).encode(),
        headers={"Authorization": f"Bearer {os.environ['KEY']}", "Content-Type": "application/json"},
        method="POST",
    )
    for _ in range(ATTEMPTS):
        wait_sec = 1.0
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
                redemption: dict[str, Any] = json.load(answer)
                return redemption
        except urllib.error.HTTPError as error:
            if error.code not in REPEAT:
                raise
            wait_sec = float(error.headers.get("Retry-After", wait_sec))
        except OSError:  # a time-out, a broken connection: it may be redeemed, the repeat gets the same redemption
            pass
        time.sleep(wait_sec)
    raise TimeoutError(f"no answer after {ATTEMPTS} attempts")


if __name__ == "__main__":
    try:
        print(json.dumps(redeem(*sys.argv[1:3])))
    except urllib.error.HTTPError as problem:
        sys.exit(problem.read().decode())
