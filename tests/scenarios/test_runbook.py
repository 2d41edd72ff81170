"""docs/runbook.md: each of its commands runs as it stands there, against a service that is at work."""

import re
from pathlib import Path
from subprocess import CompletedProcess

from coupons.management.command import EXIT_UNAVAILABLE
from coupons.models import Coupon
from tests.support.process import ROOT
from tests.support.promises import apply_all, assert_kept
from tests.support.service import Service
from tests.support.shell import typed
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.waiting import wait_until

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()


def blocks() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", RUNBOOK, flags=re.DOTALL | re.MULTILINE)


def typed_until_free(block: str, service: Service, **more: str) -> CompletedProcess[str]:
    """Again, as a person would, when the keeper was just at the same work, or when a part did not answer in time."""
    for _ in range(20):
        done = typed(block, service, **more)
        if "Another relay is running" not in done.stderr and done.returncode != EXIT_UNAVAILABLE:
            break
    return done


def test_each_command_of_the_runbook_runs_and_harms_nothing(service: Service, tmp_path: Path) -> None:
    consumer = service.manage("run_coupon_consumer", "--solo")
    service.manage("run_keeper").says("keeper: one round")  # every two seconds, so that commands find it at rest
    service.web(**LONG_TIMEOUTS)
    consumer.says("consumer.assigned")
    campaign = service.campaign(50)
    promises = apply_all(campaign, range(20))
    wait_until(lambda: Coupon.objects.count() == 20, within_sec=40)
    assert len(blocks()) > 10

    for block in blocks():
        done = typed_until_free(block, service, ID=str(campaign.pk), BACKUP=str(tmp_path / "coupons.dump"))
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"

    promises |= apply_all(campaign, range(20, 25))
    assert_kept(campaign, promises)


def test_the_metrics_that_the_runbook_names_are_there(service: Service) -> None:
    service.web()
    service.campaign(1)

    for name in ("coupon_stale", "coupon_consumer_lag"):
        assert name in RUNBOOK
        wait_until(lambda name=name: name in service.get("/metrics").data.decode(), what=name)  # type: ignore[misc]


def test_every_file_and_setting_that_the_runbook_names_exists() -> None:
    settings = (ROOT / "couponsite" / "settings.py").read_text()
    named = set(re.findall(r"COUPON_[A-Z_]+", RUNBOOK))
    files = re.findall(r"\]\(([^)#]+)\)", RUNBOOK)

    assert len(named) >= 3
    assert all(f'"{name}"' in settings for name in named)
    assert files
    assert all((ROOT / "docs" / file).is_file() for file in files)
