"""docs/settings.md says of every setting what couponsite/settings.py says."""

import ast
import re
from typing import NamedTuple

import pytest

from tests.support.process import ROOT

MAX_SETTINGS = 45
"""Of our own: one more has to be worth more to a shop than one that is there."""
REQUIRED = ("required", "claim", "database_config", "redis_url")


class Setting(NamedTuple):
    default: str
    limits: str


def documented() -> dict[str, Setting]:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) ?\| ", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE)
    assert len(rows) == len({name for name, *_ in rows}), "a setting has two rows"
    return {name: Setting(default.strip("`"), limits) for name, default, limits in rows}


def read_by_the_code() -> dict[str, Setting]:
    tree = ast.parse((ROOT / "couponsite" / "settings.py").read_text())
    found = {"COUPON_ENV_FILE": Setting("none", "")}
    found |= dict(setting for node in ast.walk(tree) if (setting := _read_by(node)))
    return found


def _read_by(node: ast.AST) -> tuple[str, Setting] | None:
    """`env.integer("COUPON_X", default=1, least=0, most=9)`, `redis_url("REDIS_URL")`."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name) or not node.args:
        return None
    name = node.args[0]
    if not isinstance(name, ast.Constant) or not re.fullmatch(
        r"(COUPON|DJANGO|WEB|DATABASE|REDIS|KAFKA)_\w+", str(name.value)
    ):
        return None
    reader = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
    given = {keyword.arg: _value_of(keyword.value) for keyword in node.keywords}
    default = given.get("default", "required" if reader in REQUIRED else "none")
    return str(name.value), Setting(str(default).lower() if isinstance(default, bool) else str(default), _limits(given))


def _value_of(expression: ast.expr) -> object:
    """Of a constant, also of `24 * 3600`."""
    try:
        return eval(compile(ast.Expression(expression), "settings.py", "eval"), {"__builtins__": {}})  # noqa: S307
    except NameError:
        return "computed"


def _limits(given: dict[str | None, object]) -> str:
    if "of" in given:
        return ", ".join(given["of"])  # type: ignore[arg-type]
    if "least" not in given:
        return ""
    return f"{given['least']} to {given['most']}" if "most" in given else f"{given['least']} up"


READ = read_by_the_code()


def test_the_settings_are_found() -> None:
    assert READ["COUPON_TOPIC_RETENTION_MS"] == Setting("2592000000", "3600000 up")
    assert READ["COUPON_CONSUMER_GROUP_PROTOCOL"] == Setting("consumer", "consumer, classic")
    assert READ["COUPON_HTTPS"] == Setting("computed", "")
    assert {"DATABASE_URL", "COUPON_WEB_WORKERS", "WEB_HOST"} <= READ.keys()


@pytest.mark.parametrize("name", sorted(READ))
def test_the_page_has_each_setting_s_default_and_range(name: str) -> None:
    assert documented().get(name) == READ[name], f"docs/settings.md: correct the row of {name}"


def test_the_page_has_no_setting_that_nothing_reads() -> None:
    assert documented().keys() - READ.keys() == set()


def test_env_example_names_settings_that_are_read() -> None:
    named = re.findall(r"^#?((?:COUPON|DJANGO)_\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)

    assert set(named) <= READ.keys()
    assert len(named) > 10


def test_there_are_not_too_many() -> None:
    assert len([name for name in READ if name.startswith("COUPON_")]) <= MAX_SETTINGS
