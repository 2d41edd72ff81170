"""docs/deploy/nginx.conf says what the service says: sizes, times, and the problems that nginx answers by itself."""

import json
import re

import pytest
from django.conf import settings

from coupons.api.problems import Code, Problem
from coupons.api.service_metrics import DATABASE_TIMEOUT_SEC
from tests.support.process import ROOT

CONF = (ROOT / "docs" / "deploy" / "nginx.conf").read_text()
PROBLEMS = re.findall(r"return (\d+) '(.*)';", CONF)


def seconds(name: str) -> list[int]:
    return [int(value) for value in re.findall(rf"^ *{name} (\d+)s;", CONF, flags=re.MULTILINE)]


def test_a_body_may_be_as_large_as_the_service_takes() -> None:
    assert re.findall(r"client_max_body_size (\d+)k;", CONF) == [str(settings.DATA_UPLOAD_MAX_MEMORY_SIZE // 1024)]


def test_proxy_timeouts_exceed_the_service_s_own() -> None:
    api, admin = seconds("proxy_read_timeout")

    assert api * 1000 > 2 * settings.ACCEPT_TIMEOUT_MS
    assert api > DATABASE_TIMEOUT_SEC
    assert admin * 1000 > 2 * settings.DB_ANSWER_TIMEOUT_MS


def test_a_client_that_sends_nothing_is_left_soon() -> None:
    assert max(seconds("client_header_timeout") + seconds("client_body_timeout") + seconds("send_timeout")) <= 10


@pytest.mark.parametrize(("status", "text"), PROBLEMS)
def test_what_nginx_answers_is_a_problem_of_the_api(status: str, text: str) -> None:
    document = json.loads(text)

    assert document == Problem(Code(document["code"])).document()
    assert document["status"] == int(status)


def test_there_are_four_of_them() -> None:
    assert sorted(status for status, _ in PROBLEMS) == ["404", "413", "429", "503"]
