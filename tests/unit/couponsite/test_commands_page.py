"""docs/commands.md says of every command and make target what the parsers and the Makefile say."""

import re
from argparse import Action
from functools import cache
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import load_command_class
from django.core.management.base import BaseCommand

from consumers.management.commands import run_coupon_consumer
from coupons.management import command
from coupons.runtime.process import EXIT_HANGS
from tests.support.process import ROOT

PAGE = (ROOT / "docs" / "commands.md").read_text()
COMMANDS = {
    file.stem: app
    for app in ("coupons", "consumers")
    for file in sorted((ROOT / app / "management" / "commands").glob("[a-z]*.py"))
}
Rows = dict[str, str]  # an option or argument -> its default


def documented() -> dict[str, Rows]:
    """A section may be about several commands, which have the same options."""
    found: dict[str, Rows] = {}
    for heading, text in re.findall(r"^### (`.*)\n((?:(?!^##).*\n)*)", PAGE, re.MULTILINE):
        rows = re.findall(r"^\| `(--[\w-]+|[A-Z]+)(?: \w+)?` \| (.*?) \|", text, re.MULTILINE)
        found |= {name: dict(rows) for name in re.findall(r"`(\w+)`", heading)}
    return found


@cache
def options(name: str) -> list[Action]:
    """Its own, without those of every Django command."""
    parser = load_command_class(COMMANDS[name], name).create_parser("manage.py", name)
    everywhere = {action.dest for action in BaseCommand().create_parser("manage.py", name)._actions}
    return [action for action in parser._actions if action.dest not in everywhere]


def shown_as(action: Action) -> str:
    return action.option_strings[-1] if action.option_strings else action.dest.upper()


def in_words(default: object) -> str:
    words = {settings.LOG_LEVEL: "`COUPON_LOG_LEVEL`", settings.TOPIC: "`COUPON_TOPIC`", "False": "off", "": "empty"}
    return words.get(str(default), str(default))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_s_options_are_those_of_its_parser(name: str) -> None:
    assert documented()[name].keys() == {shown_as(action) for action in options(name)}


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_s_default_is_the_parser_s(name: str) -> None:
    said = documented()[name]
    for action in options(name):
        default = said[shown_as(action)]
        is_optional = not action.required or action.nargs in ("*", "?")
        assert (default == "required") is not is_optional, f"{name} {shown_as(action)}"
        if action.default is not None and action.default != []:
            assert default == in_words(action.default), f"{name} {shown_as(action)}"


def test_the_page_has_no_command_that_is_not_there() -> None:
    assert documented().keys() == COMMANDS.keys()


def test_the_exit_codes_are_those_of_the_code() -> None:
    given = {command.EXIT_REFUSED, command.EXIT_UNAVAILABLE, run_coupon_consumer.EXIT_POISON}
    given |= {run_coupon_consumer.EXIT_DEFECT, EXIT_HANGS}

    assert set(re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)) == {"0", *map(str, given)}


def test_the_make_targets_are_those_of_the_makefile() -> None:
    made = re.findall(r"^([a-z-]+):.*##", Path(ROOT / "Makefile").read_text(), re.MULTILINE)

    assert re.findall(r"^\| `make ([a-z-]+)` \|", PAGE, re.MULTILINE) == sorted(made, key=_place)
    assert len(made) > 20


def _place(target: str) -> int:
    """The page has an order of its own."""
    return PAGE.find(f"| `make {target}` |")
