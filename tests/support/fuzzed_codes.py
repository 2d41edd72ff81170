"""A module of hooks for schemathesis, which knows no code: every second request that has one gets one of FUZZ_CODES."""

import os
from itertools import count, cycle
from typing import Any

import schemathesis

LONGEST = 64  # as codes.py has it, which needs Django's settings
CODES = cycle(os.environ["FUZZ_CODES"].split())
_turns = count()


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Leaves a code alone that the schema does not allow: the request is to be refused."""
    body = case.body
    code = body.get("code") if isinstance(body, dict) else None
    if isinstance(code, str) and 0 < len(code) <= LONGEST and next(_turns) % 2:
        body["code"] = next(CODES)
