"""schemathesis asks the running service all that its own schema allows, and much that it does not.

Bounded here; `make fuzz` does the same for longer. It stands on the schema that the service serves, so an answer that
the schema does not know is a failure, as is every 500.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from coupons.models import CouponEvent
from tests.support.checkout import assert_lives_are_whole, coupon_of
from tests.support.process import ROOT
from tests.support.service import API_KEY, Service
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.waiting import wait_until

CONFIG = ROOT / "tests" / "scenarios" / "schemathesis.toml"
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "20"))
FIRST_SEED = int(os.environ.get("FUZZ_SEED", "1"))
OPERATIONS = 14
COUPONS = 40
ROUNDS = int(os.environ.get("FUZZ_ROUNDS", "1"))
"""Rounds with other seeds instead of more examples in one: the search for slow answers grows with these, and after
a thousand of them spends its time on few requests."""


@pytest.mark.timeout(7_200)
@pytest.mark.attack(
    "fuzzed requests",
    "{requests} requests that schemathesis makes of the service's own schema: good and bad, alone and in sequences",
    "no 500, nothing that the schema does not know; it still answers",
)
def test_no_request_is_answered_500_or_outside_the_schema(
    service: Service, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    service.web(**LONG_TIMEOUTS)
    campaign = service.campaign(1_000)
    codes = [coupon_of(service, f"u{number}", campaign=campaign).code for number in range(COUPONS)]

    sent = sum(fuzz(service, tmp_path, codes, seed) for seed in range(FIRST_SEED, FIRST_SEED + ROUNDS))

    assert sent >= ROUNDS * EXAMPLES * OPERATIONS
    assert set(CouponEvent.objects.values_list("kind", flat=True)) >= {"redeemed", "returned", "revoked"}
    assert_lives_are_whole()
    wait_until(lambda: service.ticket(campaign, "nobody").status == 404, what="it still answers")
    record_property("requests", sent)


def fuzz(service: Service, folder: Path, codes: list[str], seed: int) -> int:
    """How many requests were sent and answered as the schema says."""
    report = folder / f"{seed}.json"
    fuzzer = service.start(
        "schemathesis",
        [
            "sh", "-c", 'cd "$0" && exec "$@"', str(folder),  # it leaves files where it runs
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG),
            "run", f"{service.url}/api/schema/",
            "--header", f"Authorization: Bearer {API_KEY}",
            "--max-examples", str(EXAMPLES),
            "--request-timeout", "10",
            "--checks", "all",
            "--seed", str(seed),
            "--no-color",
            "--report", "json", "--report-json-path", str(report),
        ],
        SCHEMATHESIS_HOOKS="tests.support.fuzzed_codes",
        PYTHONPATH=str(ROOT),
        FUZZ_CODES=" ".join(codes),
    )  # fmt: skip

    code = fuzzer.wait(within_sec=3_500)

    assert code == 0, fuzzer.output
    return int(json.loads(report.read_text())["test_cases"]["generated"])
