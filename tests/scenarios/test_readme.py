"""What README.md shows is what happens: the result of the demo, and the session with curl."""

import json
import re

from coupons.models import Campaign
from harness import free_port
from tests.support.process import ROOT
from tests.support.service import PYTHON, Service
from tests.support.shell import typed
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.waiting import wait_until


def _blocks(heading: str) -> list[str]:
    section = (ROOT / "README.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```\n(.*?)```", section, flags=re.DOTALL)


def _session() -> list[str]:
    """The commands of "A session with curl", without the line that asks make for the running stack's settings."""
    return [part for part in _blocks("A session with curl")[1].split("\n\n") if part.strip()]


def _without_chance(text: str) -> list[str]:
    """Its lines, without ids, times, and who was how fast."""
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", text)
    text = re.sub(r"\b(user|p50|p99) \d+", r"\1 N", text)
    return [re.sub(r"\d:\d\d:\d\d", "TIME", line).strip() for line in text.splitlines() if line.strip()]


def _run(service: Service, script: str) -> str:
    done = typed(script, service)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_demo_ends_as_the_readme_shows(service: Service) -> None:
    (shown,) = _blocks("What the demo shows")
    command, *lines = _without_chance(shown)
    assert command == "$ make demo"

    demo = service.start("demo", [PYTHON, "-m", "benchmarks.demo"], WEB_PORT=str(free_port()))

    assert demo.wait(within_sec=120) == 0, demo.output
    said = _without_chance(demo.output)
    assert [line for line in said if line in lines] == lines, demo.output


def test_the_readme_s_session_with_curl_works(service: Service) -> None:
    service.web(**LONG_TIMEOUTS)
    service.consumer()
    prepare, apply, ticket, redeem, give_back, reconcile = _session()
    prepare = "\n".join(line for line in prepare.splitlines() if "make -s env" not in line)

    applied = _run(service, f"{prepare}\n{apply}")
    assert "HTTP/1.1 202 Accepted" in applied
    assert '"status":"pending","sequence":1,"status_url":"/api/v1/campaigns/' in applied

    prepare = prepare.replace(re.findall(r"ID=.*", prepare)[0], f"ID={Campaign.objects.get().pk}")
    shown = wait_until(lambda: '"issued"' in (found := _run(service, f"{prepare}\n{ticket}")) and found)
    assert json.loads(str(shown)).keys() >= {"status", "sequence", "code", "issued_at"}
    with_code = f"{prepare}\n{{ {ticket}\n}} >&2\n{redeem}"
    redeemed = json.loads(_run(service, with_code))
    assert (redeemed["status"], redeemed["order_ref"]) == ("redeemed", "1001")
    assert json.loads(_run(service, with_code)) == redeemed
    assert json.loads(_run(service, f"{prepare}\n{{ {ticket}\n{redeem}\n}} >&2\n{give_back}")) == {
        **redeemed,
        "status": "returned",
    }
    assert "tickets 1 = issued 1 + failed 0 + pending 0 (quantity 100): closes" in _run(
        service, f"{prepare}\n{reconcile}"
    )
