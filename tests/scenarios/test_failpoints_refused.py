"""A service whose database is no test's does not start with failpoints, whichever way it is started."""

import socket

import pytest

from tests.support.process import ROOT
from tests.support.service import Service

REASON = "coupons.E006"


@pytest.mark.parametrize(
    "command",
    [
        ["run_coupon_consumer"],
        ["run_coupon_consumer", "--solo", "--child-of=1"],
        ["run_keeper"],
        ["run_jobs"],
        ["retry_failed_coupons"],
    ],
    ids=" ".join,
)
def test_no_command_starts(service: Service, command: list[str]) -> None:
    refused = service.run(*command, DATABASE_URL=other_database(service))

    assert refused.exit_code == 1
    assert REASON in refused.output
    assert "is no test's: its name would begin with test_" in refused.output


def test_the_web_server_serves_nobody(service: Service) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    web = service.start("web", [str(ROOT / "bin" / "web")], WEB_PORT=str(port), DATABASE_URL=other_database(service))

    assert web.wait(within_sec=60) == 1, "it starts no worker"
    assert web.output.startswith(f"bin/web: {REASON}")
    assert web.output.count("\n") == 1


def other_database(service: Service) -> str:
    url, _, name = service.environment["DATABASE_URL"].rpartition("/")
    assert name.startswith("test_")
    return f"{url}/{name.removeprefix('test_')}"
