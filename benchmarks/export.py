"""Measures time and memory of exporting a million coupons: by `export_coupons`, and over HTTP from a web server.

Half of the coupons are redeemed, so that the file has all of its columns.
"""

import time
from http import HTTPStatus
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import urllib3
from django.conf import settings
from django.db import connection

from benchmarks.figures import Mark, at_most
from benchmarks.targets import READY_SEC
from benchmarks.workload import Run, insert_coupons, open_new
from harness import (
    CHECKOUT,
    HOST,
    MANAGE,
    ServiceFailed,
    Services,
    answers_ok,
    free_port,
    peak_mib,
    pss_mib,
    unlimited_waits,
)

LOOK_SEC = 0.05
CHUNK = 1 << 16
REDEEM_HALF = """
INSERT INTO coupons_redemption (id, coupon_id, order_ref, state, redeemed_at)
SELECT gen_random_uuid(), id, 'order-' || id, 'redeemed', now() FROM coupons_coupon
WHERE campaign_id = %s AND sequence %% 2 = 0
"""


def measure(run: Run) -> tuple[dict[str, Any], list[Mark]]:
    count = run.size(1_000_000, 20_000)
    campaign_id = _create_campaign(count)
    exports, downloads = [], []
    with TemporaryDirectory(prefix="bench-export-") as folder, Services(log_folder=run.log_folder) as services:
        port = free_port()
        web = services.start("bench-export-web", [str(CHECKOUT / "bin" / "web")], {"WEB_PORT": str(port)})
        ready = f"http://{HOST}:{port}/readyz"
        services.wait("/readyz", lambda: answers_ok(ready), deadline_sec=READY_SEC, service=web)
        for _ in range(run.repeats):
            exports.append(_export(services, campaign_id, Path(folder) / "coupons.csv", count))
            downloads.append(_download(port, web.process.pid, campaign_id, count))
            run.say("export_coupons {:.1f} s and {:.0f} MiB".format(*exports[-1]))
            run.say("over HTTP {:.1f} s, first byte {:.2f} s, web server + {:.0f} MiB".format(*downloads[-1]))
    seconds, peaks = zip(*exports, strict=True)
    served, firsts, growths = zip(*downloads, strict=True)
    by_http = (
        f"{median(served):.1f} s, first byte after {max(firsts) * 1000:.0f} ms, web server + {max(growths):.0f} MiB"
    )
    return {
        "coupons": count,
        "repeats": {"seconds": seconds, "peak_mib": peaks, "http_seconds": served, "http_first_byte_seconds": firsts},
        "notes": {
            f"`export_coupons`, {count:,} coupons": f"{median(seconds):.1f} s and {max(peaks):.0f} MiB",
            f"`GET .../coupons.csv`, {count:,} coupons": by_http,
        },
    }, [
        at_most("export_coupons, a million coupons", median(seconds), 30, " s"),
        at_most("export_coupons, peak memory", max(peaks), 100, " MiB"),
        at_most("coupons.csv over HTTP, a million coupons", median(served), 30, " s"),
        at_most("coupons.csv over HTTP, first byte", max(firsts), 1, " s"),
        at_most("coupons.csv over HTTP, growth of the web server", max(growths), 100, " MiB"),
    ]


def _create_campaign(count: int) -> UUID:
    campaign_id = open_new("export", count)
    insert_coupons(campaign_id, count)
    with unlimited_waits(), connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(REDEEM_HALF, [campaign_id])
        cursor.execute("ANALYZE coupons_coupon, coupons_redemption")
    connection.close()
    return campaign_id


def _export(services: Services, campaign_id: UUID, file: Path, count: int) -> tuple[float, float]:
    """Runs the command as an operator does. Returns seconds and peak memory in MiB."""
    began, peak = time.monotonic(), 0.0
    command = [*MANAGE, "export_coupons", str(campaign_id), "--output", str(file)]
    service = services.start("bench-export", command)
    while service.process.poll() is None:
        peak = max(peak, peak_mib(service.process.pid))
        time.sleep(LOOK_SEC)
    took = time.monotonic() - began
    with file.open("rb") as lines:
        found = sum(1 for _ in lines) - 1
    if service.process.returncode != 0 or found != count:
        raise ServiceFailed(f"{found} of {count} coupons were exported.\n{service.tail()}")
    services.stop(service)
    return took, peak


def _download(port: int, web: int, campaign_id: UUID, count: int) -> tuple[float, float, float]:
    """Returns the seconds until the last and the first byte, and by how many MiB the web server grew meanwhile."""
    url = f"http://{HOST}:{port}/api/v1/campaigns/{campaign_id}/coupons.csv"
    before, peak, lines, first = pss_mib(web), 0.0, 0, 0.0
    began = looked_at = time.monotonic()
    bearer = {"Authorization": f"Bearer {settings.API_KEYS[0]}"}
    answer = urllib3.request("GET", url, headers=bearer, preload_content=False, timeout=60, retries=False)
    for chunk in answer.stream(CHUNK):
        first = first or time.monotonic() - began
        lines += chunk.count(b"\n")
        if time.monotonic() - looked_at > LOOK_SEC * 10:
            peak, looked_at = max(peak, pss_mib(web)), time.monotonic()
    if answer.status != HTTPStatus.OK or lines != count + 1:
        raise ServiceFailed(f"{answer.status}, {lines - 1} of {count} coupons were sent.")
    return time.monotonic() - began, first, max(peak - before, 0.0)
