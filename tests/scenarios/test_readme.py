"""The README's session with curl, run as it stands there."""

import json
import re

from coupons.models import Campaign
from tests.support.patience import PATIENT
from tests.support.process import ROOT
from tests.support.service import Service
from tests.support.shell import typed
from tests.support.waiting import wait_until


def _session() -> list[str]:
    """The commands of "A session with curl", without the line that asks make for the running stack's settings."""
    text = (ROOT / "README.md").read_text().split("## A session with curl")[1].split("\n## ")[0]
    block = re.findall(r"```\n(.*?)```", text, flags=re.DOTALL)[1]
    return [part for part in block.split("\n\n") if part.strip()]


def _run(service: Service, script: str) -> str:
    done = typed(script, service)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_session_with_curl_in_the_readme_shows_what_it_says(service: Service) -> None:
    service.web(**PATIENT)
    service.consumer()
    prepare, apply, ticket, reconcile = _session()
    prepare = "\n".join(line for line in prepare.splitlines() if "make -s env" not in line)

    applied = _run(service, f"{prepare}\n{apply}")
    assert "HTTP/1.1 202 Accepted" in applied
    assert '"status":"pending","sequence":1,"status_url":"/api/v1/campaigns/' in applied

    prepare = prepare.replace(re.findall(r"ID=.*", prepare)[0], f"ID={Campaign.objects.get().pk}")
    shown = wait_until(lambda: '"issued"' in (found := _run(service, f"{prepare}\n{ticket}")) and found)
    assert json.loads(str(shown)).keys() == {"status", "sequence", "code", "issued_at"}
    assert "tickets 1 = issued 1 + failed 0 + pending 0 (quantity 100): closes" in _run(
        service, f"{prepare}\n{reconcile}"
    )
