"""schemathesis asks the running service all that its own schema allows, and much that it does not.

Bounded here; `make fuzz` does the same for longer. It stands on the schema that the service serves, so an answer that
the schema does not know is a failure, as is every 500.
"""

import os
import sys
from pathlib import Path

import pytest

from tests.support.process import ROOT
from tests.support.service import API_KEY, Service

CONFIG = ROOT / "tests" / "scenarios" / "schemathesis.toml"
EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "25")


@pytest.mark.timeout(3_600)
def test_no_request_is_answered_500_or_outside_the_schema(service: Service, tmp_path: Path) -> None:
    service.web()
    campaign = service.campaign(1_000)
    fuzzer = service.start(
        "schemathesis",
        [
            "sh", "-c", 'cd "$0" && exec "$@"', str(tmp_path),  # it leaves files where it runs
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", f"{service.url}/api/schema/",
            "--header", f"Authorization: Bearer {API_KEY}",
            "--max-examples", EXAMPLES,
            "--request-timeout", "10",
            "--checks", "all",
            "--seed", os.environ.get("FUZZ_SEED", "1"),
            "--no-color",
        ],
    )  # fmt: skip

    code = fuzzer.wait(within_sec=3_500)

    assert code == 0, fuzzer.output
    assert service.ticket(campaign, "nobody").status == 404, "it still answers"
