"""One reader of `.env` for all: a line means what docker compose takes it for, or it is refused by its number."""

import os
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from couponsite import env
from couponsite.env_file import BadLine, parse, read_env_file

NAME = "COUPON_TEST_SETTING"
SAME_FOR_ALL = {
    "A=plain": "plain",
    "export A=exported": "exported",
    "A=abc # a comment": "abc",
    "A=abc#def": "abc#def",
    "A=#abc": "#abc",
    "A='quoted'": "quoted",
    'A="quoted"': "quoted",
    "A='quoted' # a comment": "quoted",
    'A="a # in quotes" # a comment': "a # in quotes",
    "A='$HOME is not # replaced'": "$HOME is not # replaced",
    r'A="a \" and a \\ and a \$"': 'a " and a \\ and a $',
    "A=postgres://u:p@h:5432/d?a=b&c=d": "postgres://u:p@h:5432/d?a=b&c=d",
    r"A=a=b;c=d\;e": r"a=b;c=d\;e",
    "A=it's": "it's",
    'A={"a":1}': '{"a":1}',
    "A=two words": "two words",
    " A = blanks around ": "blanks around",
    "A=": "",
    "A=''": "",
    "A=windows\r": "windows",
    "\ufeffA=after a byte order mark": "after a byte order mark",
    "# a comment\n\nA=1\nA=2": "2",
}
"""Each was read by compose-go 2.4.0 as well, with the same value."""
REFUSED = {
    "hunter2": "no KEY=value",
    "A hunter2": "no KEY=value",
    "A-B=hunter2": "no KEY=value",
    "A='hunter2": "no closing quote",
    'A="hunter2': "no closing quote",
    "A='hunter'2": "something behind it",
    "A=hunter$2": "single quotes",
    "A=${hunter2}": "single quotes",
    'A="hunter$2"': "double quotes hold",
    'A="hunter`2`"': "double quotes hold",
    r'A="hunter\n2"': "double quotes hold",
    "A='hunter2\\'": "double quotes",
    "A= # hunter2": "begins with a #",
    "A=hunter\x002": "no KEY=value",
}


@pytest.mark.parametrize(("text", "value"), SAME_FOR_ALL.items())
def test_a_line_means_what_docker_compose_takes_it_for(tmp_path: Path, text: str, value: str) -> None:
    file = tmp_path / "env"
    file.write_bytes(f"{text}\n".encode())

    assert read_env_file(file) == {"A": value}


def test_a_tab_before_a_comment_is_a_blank() -> None:
    """As for a shell; compose would keep both."""
    assert parse("A=abc\t# a comment") == {"A": "abc"}


@pytest.mark.parametrize(("line", "words"), REFUSED.items())
def test_a_line_that_is_refused_is_named_by_its_number(line: str, words: str) -> None:
    with pytest.raises(BadLine, match=f"^line 3: .*{words}") as caught:
        parse(f"GOOD=1\n\n{line}\nB=2")

    assert "hunter" not in str(caught.value)


def test_a_file_that_is_no_text_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "env").write_bytes("A=1\nB=쿠폰\n".encode("euc-kr"))

    with pytest.raises(BadLine, match="env, line 2: it is not UTF-8 text"):
        read_env_file(tmp_path / "env")


def test_what_is_set_already_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COUPON_ENV_FILE", raising=False)
    monkeypatch.setenv(NAME, "mine")
    monkeypatch.setenv(f"{NAME}_2", "restored")
    monkeypatch.delenv(f"{NAME}_2")
    (tmp_path / ".env").write_text(f"{NAME}=theirs\n{NAME}_2='theirs' # too\n")

    env.read_file(tmp_path / "missing", tmp_path / ".env")

    assert (os.environ[NAME], os.environ[f"{NAME}_2"]) == ("mine", "theirs")


def test_a_bad_file_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUPON_ENV_FILE", str(tmp_path / "env"))
    (tmp_path / "env").write_text("A='hunter2\n")

    with pytest.raises(ImproperlyConfigured, match="env, line 1: ") as caught:
        env.read_file()

    assert "hunter2" not in str(caught.value)
