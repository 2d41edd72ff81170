"""What the log says while users get 503: one line a second, not one or two a request."""

from types import SimpleNamespace

import pytest

from coupons.admission.scripts import admission_redis
from coupons.api import problem_responses
from tests.support.clocks import Clock
from tests.support.http import Api, assert_problem
from tests.support.service import Service


def test_an_outage_is_one_line_however_many_ask(
    api: Api, service: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(problem_responses, "outages", type(problem_responses.outages)())  # the last line is long ago
    monkeypatch.setattr(problem_responses, "time", SimpleNamespace(monotonic=Clock()))
    campaign = service.campaign(10)
    admission_redis().flushall()
    caplog.clear()

    for user in range(5):
        assert_problem(api.apply(campaign, str(user)), 503, "unavailable")

    ours = ("coupons.api.problem_responses", "django.request")
    logged = [record for record in caplog.records if record.levelname in ("WARNING", "ERROR") and record.name in ours]
    assert [record.name for record in logged] == ["coupons.api.problem_responses"]
    assert "state is not current (missing)" in logged[0].message
