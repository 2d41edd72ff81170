"""An older version's processes beside the new ones, under load: each understands what the other has written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import free_port
from tests.support.process import ROOT, Process
from tests.support.promises import assert_history_holds
from tests.support.service import Service

pytestmark = pytest.mark.system
OLDER = "54c004914c52"
"""Its messages, scripts and tables are understood as the present ones are. Move it when that ends, and say in the
changelog in which order to update from it."""


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """Its checkout; `migrate` of the present version has run on the database."""
    archive = subprocess.run(["git", "-C", ROOT, "archive", OLDER], capture_output=True, check=False)
    if archive.returncode != 0:
        pytest.skip(f"this clone has no history: `git fetch --unshallow` brings commit {OLDER}")
    subprocess.run(["tar", "-x", "-C", tmp_path], input=archive.stdout, check=True)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


def start_older(service: Service, folder: Path) -> list[Process]:
    """Web, consumer and keeper."""
    port = free_port()
    file = str(ROOT / os.environ["COUPON_ENV_FILE"])  # bin/web goes to its own folder
    of_web = {"WEB_PORT": str(port), "COUPON_WEB_WORKERS": "1", "COUPON_ENV_FILE": file}
    web = service.start("older web", [str(folder / "bin" / "web")], **of_web)
    manage = [sys.executable, str(folder / "manage.py")]
    consumer = service.start("older consumer", [*manage, "run_coupon_consumer", "--solo"])
    keeper = service.start("older keeper", [*manage, "run_keeper", "--interval-ms", "300"])
    consumer.says("consumer.assigned")
    keeper.says("keeper: one round")
    web.says("Started worker-1")
    service.addresses.append(f"http://127.0.0.1:{port}")
    return [consumer, keeper, web]


def test_two_versions_side_by_side_lose_nothing(service: Service, older: Path) -> None:
    campaign = service.campaign(quantity=20_000)
    former = start_older(service, older)
    crowd = service.crowd(campaign)
    crowd.wait_for_promises("by the older version", users=50)

    new_consumer = service.consumer("--solo")
    service.keeper()
    crowd.wait_for_promises("with both consumers and keepers", users=50)
    service.web()
    crowd.wait_for_promises("by both versions", users=100)
    service.stack("kill", "redis")
    service.stack("start", "redis")
    crowd.wait_for_promises("after a rebuild by one of the keepers", users=50)

    for process in former:
        assert process.stop() == 0
    service.addresses.pop(0)
    crowd.wait_for_promises("by the new version alone", users=50)
    assert_history_holds(crowd, campaigns=[campaign], within_sec=90)
    assert service.run("reconcile_campaigns").exit_code == 0
    assert new_consumer.stop() == 0
