"""Each script's header is its contract: the codes that it names are those that it returns and that Python knows."""

import inspect
import re

import pytest

from coupons.admission import gate, rebuild, scripts
from coupons.admission.campaign_store import PushResult
from coupons.admission.gate import Outcome

NAMES = sorted(path.stem for path in scripts.LUA_FOLDER.glob("*.lua") if path.stem != "state")
OF_A_STATE_THAT_IS_NOT_CURRENT = {"STALE", "EPOCH_AHEAD"}
REFUSALS = {Outcome.PAUSED, Outcome.CLOSED, Outcome.NOT_OPEN, Outcome.SOLD_OUT}  # refusal() of state.lua
# What Python makes of each script's own codes. Those of an enum are its values, the others are compared by name.
KNOWN: dict[str, set[str]] = {
    "admit": set(Outcome),
    "confirm": {"CONFIRMED", "NOT_HELD"},
    "held": {"CURRENT"},
    "sequences": {"CURRENT"},
    "settle": {"CURRENT"},
    "mark_unpublished": {"CURRENT"},
    "pending_range": {"CURRENT"},
    "describe": {"CURRENT"},
    "refusal_state": {"CURRENT", *REFUSALS},
    "load": {"LOADED", "EXISTS"},
    "push": {code for code in PushResult if code is not PushResult.LOWERING},
    "erase": {"ERASED", "NO_TICKET"},
    "lower": {PushResult.LOWERING, PushResult.SUPERSEDED, PushResult.BELOW_ADMITTED},
    "begin_rebuild": {"BEGUN"},
    "finish_rebuild": {"REBUILT", "NOT_THE_REBUILDER", "INCOMPLETE"},
    "mark_published": set(),
}


def header(name: str) -> str:
    lines = (scripts.LUA_FOLDER / f"{name}.lua").read_text().splitlines()
    return "\n".join(line for line in lines if line.startswith("--"))


def body(name: str) -> str:
    lines = (scripts.LUA_FOLDER / f"{name}.lua").read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("--"))


def codes(text: str) -> set[str]:
    """Those of refusal() stand in state.lua, whatever script returns them."""
    own = set(re.findall(r"\{'([A-Z_]+)'", text))
    return own | REFUSALS if re.search(r"return reason|reason and reason|function refusal", text) else own


@pytest.mark.parametrize("name", NAMES)
def test_the_header_names_the_codes_that_the_script_returns(name: str) -> None:
    assert codes(header(name)) - OF_A_STATE_THAT_IS_NOT_CURRENT == codes(body(name))


@pytest.mark.parametrize("name", NAMES)
def test_python_knows_exactly_the_script_s_codes(name: str) -> None:
    assert codes(body(name)) == {str(code) for code in KNOWN[name]}


@pytest.mark.parametrize("name", NAMES)
def test_a_script_reading_the_state_declares_it(name: str) -> None:
    looks = "read_state()" in body(name)

    assert looks == ("state.lua" in header(name))
    assert looks == ("epoch known to the caller" in header(name) or "ARGV  1 epoch   2 revision" in header(name)) or (
        name == "load"
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_header_names_every_key_and_argument(name: str) -> None:
    used_keys = {int(number) for number in re.findall(r"KEYS\[(\d+)\]", body(name))}
    used_arguments = {int(number) for number in re.findall(r"ARGV\[(\d+)\]", body(name))}
    keys_line = re.search(r"-- KEYS(.*)", header(name))
    named_keys = {int(number) for number in re.findall(r"\b(\d+) ", keys_line[1])} if keys_line else set()
    arguments = header(name).partition("ARGV")[2].partition("Returns")[0]

    assert used_keys <= named_keys
    assert used_arguments <= {int(number) for number in re.findall(r"(?<![\d,])(\d+)(?=\.\.| )", arguments)}


def test_the_codes_of_the_state_match_its_header() -> None:
    assert codes(header("state")) == codes(body("state")) == OF_A_STATE_THAT_IS_NOT_CURRENT | REFUSALS
    named = re.search(r"\{'STALE', reason\}\s+(.*)", header("state"))
    assert named
    assert set(named[1].split(" | ")) == set(re.findall(r"'STALE', '(\w+)'", body("state")))


def test_python_makes_exceptions_of_a_state_that_is_not_current() -> None:
    handled = inspect.getsource(gate.current)

    assert all(f'"{code}"' in handled for code in OF_A_STATE_THAT_IS_NOT_CURRENT)


def test_a_rebuild_counts_as_done_by_its_own_code_only() -> None:
    assert 'code != "REBUILT"' in inspect.getsource(rebuild.finish_rebuild)


@pytest.mark.parametrize("name", NAMES)
def test_every_script_starts_so_that_a_replica_refuses_it(name: str) -> None:
    assert scripts.source(name).startswith("#!lua")


@pytest.mark.parametrize("name", ["admit", "load", "begin_rebuild", "finish_rebuild"])
def test_what_adds_keys_is_refused_when_redis_is_full(name: str) -> None:
    assert "allow-oom" not in scripts.source(name).splitlines()[0]


@pytest.mark.parametrize("name", ["confirm", "held", "settle", "describe", "refusal_state", "pending_range"])
def test_what_the_consumer_needs_runs_also_when_redis_is_full(name: str) -> None:
    assert "allow-oom" in scripts.source(name).splitlines()[0]
