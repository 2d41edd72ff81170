"""bin/web reads the settings like every command, and says in one line why it does not start."""

import socket
from pathlib import Path

import pytest

from harness import free_port
from tests.support.process import ROOT, Process
from tests.support.service import Service
from tests.support.waiting import wait_until

WEB = [str(ROOT / "bin" / "web")]


def test_the_settings_file_counts_for_the_web_server(service: Service, tmp_path: Path) -> None:
    port, metrics, file = free_port(), tmp_path / "metrics", tmp_path / "settings.env"
    file.write_text(f"WEB_PORT={port}\nCOUPON_WEB_WORKERS=1\nCOUPON_METRICS_DIR={metrics}\n")
    not_set = ["env", *(f"--unset={name}" for name in ("WEB_PORT", "COUPON_WEB_WORKERS", "COUPON_METRICS_DIR"))]
    secrets = {"DJANGO_SECRET_KEY": "a secret of this test, " * 3}
    web = service.start("web", [*not_set, *WEB], COUPON_ENV_FILE=str(file), **secrets)

    web.says(f"Listening at: http://127.0.0.1:{port}")
    web.says("Started worker-1")
    assert "worker-2" not in web.output
    wait_until(lambda: any(metrics.glob("counter_*.db")), what="the processes share their metrics")


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"WEB_PORT": "eighty"}, "bin/web: WEB_PORT='eighty' is not a whole number."),
        ({"COUPON_WEB_WORKERS": "0"}, "bin/web: COUPON_WEB_WORKERS=0 is out of range: it must be at least 1"),
        ({"DATABASE_URL": "mysql://db/coupons"}, "bin/web: DATABASE_URL is no URL that starts with postgres"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_a_bad_setting_is_one_line(service: Service, setting: dict[str, str], says: str) -> None:
    refused = service.start("web", WEB, **{"WEB_PORT": str(free_port()), **setting})

    assert _refusal(refused).startswith(says)


def test_a_taken_port_is_one_line(service: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = service.start("web", WEB, WEB_PORT=str(port))

        assert _refusal(refused) == (
            f"bin/web: cannot listen on 127.0.0.1:{port}: Address already in use. Choose another: "
            "WEB_PORT=8123 make web\n"
        )


def _refusal(web: Process) -> str:
    assert web.wait(within_sec=60) == 1
    assert web.output.count("\n") == 1, web.output
    return web.output
