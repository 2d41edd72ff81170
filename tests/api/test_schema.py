"""The contract as it is served: complete, valid, open to read, and with no address outside."""

import re
import subprocess
import sys
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.test import Client
from django.urls import get_resolver
from drf_spectacular.validation import validate_schema

from coupons.api.problems import KINDS, Code, Problem
from coupons.api.schema import document
from tests.support import problem_table
from tests.support.process import ROOT

PARAMETER = re.compile(r"\(\?P<(\w+)>[^)]*\)|<str:(\w+)>")
OPERATIONS = [
    (path, method, operation) for path, methods in document()["paths"].items() for method, operation in methods.items()
]


def test_it_is_openapi_3_1() -> None:
    assert document()["openapi"].startswith("3.1.")
    validate_schema(document())  # type: ignore[no-untyped-call]


def test_every_address_and_method_of_the_api_is_in_it() -> None:
    served = set()
    for pattern in get_resolver("coupons.api.urls").url_patterns:
        named = PARAMETER.sub(r"{\g<1>\g<2>}", str(pattern.pattern)).strip("^$")
        scopes = pattern.callback.view_class.scopes  # type: ignore[union-attr]
        served |= {(f"/api/v1/{named}", method.lower()) for method in scopes}

    assert {(path, method) for path, method, _ in OPERATIONS} == served


@pytest.mark.parametrize(
    ("path", "method", "operation"),
    OPERATIONS,
    ids=lambda each: str(each.get("operationId")) if isinstance(each, dict) else None,
)
def test_every_answer_has_a_body_and_every_problem_an_example(
    path: str, method: str, operation: dict[str, Any]
) -> None:
    codes = set()
    for status, answer in operation["responses"].items():
        for media_type, content in answer["content"].items():
            assert content["schema"]
            if int(status) >= 400:
                assert media_type == "application/problem+json"
                examples = [example["value"] for example in content["examples"].values()]
                assert all(Problem(Code(each["code"])).document() == each for each in examples)
                assert {each["status"] for each in examples} == {int(status)}
                codes |= {each["code"] for each in examples}
    assert {"unauthenticated", "forbidden", "too-many-requests", "unavailable", "internal"} <= codes
    assert operation["security"] == [{"userToken": []}, {"apiKey": []}]


def test_the_schema_names_every_answer_to_an_application() -> None:
    [apply] = [operation for _, _, operation in OPERATIONS if operation["operationId"] == "apply"]

    assert {"200", "202", "409", "410", "404", "503", "413", "415"} <= set(apply["responses"])
    assert set(apply["responses"]["409"]["content"]["application/problem+json"]["examples"]) == {
        "Sold-out", "Not-open", "Paused",
    }  # fmt: skip


def test_only_a_process_that_serves_it_loads_the_generator() -> None:
    """Which takes 4 MB."""
    code = """
import django, sys
django.setup()
from django.test import Client
assert Client(SERVER_NAME="127.0.0.1").get("/api/v1/campaigns").status_code == 401
sys.exit("drf_spectacular.openapi" in sys.modules)
"""

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_it_is_served_to_everybody() -> None:
    answer = Client().get("/api/schema/")

    assert answer.status_code == 200
    assert answer.json()["paths"].keys() == document()["paths"].keys()


def test_a_problem_s_type_leads_to_what_it_means() -> None:
    page = Client().get("/api/docs/problems").content.decode()

    for code, kind in KINDS.items():
        assert Problem(code).document()["type"] == f"/api/docs/problems#{code}"
        assert f'<h2 id="{code}">' in page
        assert kind.title.split("'")[0] in page


def test_the_document_s_table_is_the_program_s() -> None:
    text = problem_table.DOCUMENT.read_text()

    assert problem_table.with_table(text) == text, "`.venv/bin/python -m tests.support.problem_table` makes it anew"
    assert "| `sold-out` | 409 |" in text


def test_the_page_takes_everything_from_here_and_runs_nothing_inline() -> None:
    page = Client().get("/api/docs/").content.decode()
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)

    assert len(sources) >= 4
    assert all(source.startswith("/") and not source.startswith("//") for source in sources)
    assert not re.search(r"<script>|<style|\son\w+=", page)
    files = [source.removeprefix("/static/") for source in sources if source.startswith("/static/")]
    assert len(files) == 3
    assert all(finders.find(file) for file in files)


@pytest.mark.parametrize("address", ["/api/schema/", "/api/docs/", "/api/docs/problems"])
def test_other_methods_are_refused(address: str) -> None:
    assert Client().post(address).status_code == 405
    assert Client().head(address).status_code == 200
