"""The readers of the environment: a bad value names its variable and what to do, and never shows a password."""

from pathlib import Path

import pytest
from django.conf import LazySettings
from django.core.exceptions import ImproperlyConfigured

from coupons.checks.configuration import check_unread_settings
from couponsite import env

NAME = "COUPON_TEST_SETTING"


@pytest.fixture(autouse=True)
def _not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NAME, raising=False)


@pytest.mark.parametrize("value", [None, "", "   "])
def test_a_missing_variable_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is not None:
        monkeypatch.setenv(NAME, value)

    with pytest.raises(ImproperlyConfigured, match=rf"{NAME} is not set \(host:port\).*make up"):
        env.required(NAME, hint="host:port")


def test_a_required_variable_is_given_without_the_blanks_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "  x y ")

    assert env.required(NAME) == "x y"


def test_a_variable_that_is_set_wins_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "mine")

    assert env.required(NAME, default="theirs") == "mine"
    assert env.choice(NAME, default="theirs", of=("mine", "theirs")) == "mine"


@pytest.mark.parametrize(
    ("value", "path"), [("", ""), ("/", ""), ("/coupons", "/coupons"), ("/shop/coupons-2.0/", "/shop/coupons-2.0")]
)
def test_a_path_prefix_has_no_slash_at_its_end(monkeypatch: pytest.MonkeyPatch, value: str, path: str) -> None:
    monkeypatch.setenv(NAME, value)

    assert env.path_prefix(NAME, taken=("api",)) == path


@pytest.mark.parametrize("value", ["coupons", "//x", "/a//b", "/a/../b", "/a b", "/a?b", "https://shop.test/a"])
def test_what_is_no_path_prefix_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(NAME, value)

    with pytest.raises(ImproperlyConfigured, match=f"{NAME}=.* is no path like /coupons"):
        env.path_prefix(NAME, taken=("api",))


def test_a_prefix_like_the_service_s_own_paths_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "/api/coupons")

    with pytest.raises(ImproperlyConfigured, match="begins like a path of the service itself"):
        env.path_prefix(NAME, taken=("api",))


@pytest.mark.parametrize("text", ["ten", "1.5", "0x10", "1e3"])
def test_what_is_no_whole_number_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(NAME, text)

    with pytest.raises(ImproperlyConfigured, match=f"{NAME}='{text}' is not a whole number"):
        env.integer(NAME, default=1, least=0)


@pytest.mark.parametrize("text", ["0", "-3", "11"])
def test_a_number_out_of_range_names_the_range(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(NAME, text)

    with pytest.raises(ImproperlyConfigured, match=f"{NAME}={text}.*at least 1 and at most 10"):
        env.integer(NAME, default=1, least=1, most=10)


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_number_is_the_default(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(NAME, text)

    assert env.integer(NAME, default=7, least=1) == 7


@pytest.mark.parametrize(("text", "value"), [("1", True), ("Yes", True), ("on", True), ("FALSE", False), ("0", False)])
def test_a_boolean_may_be_written_as_people_do(monkeypatch: pytest.MonkeyPatch, text: str, value: bool) -> None:
    monkeypatch.setenv(NAME, text)

    assert env.boolean(NAME, default=not value) is value


def test_any_other_boolean_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "maybe")

    with pytest.raises(ImproperlyConfigured, match=f"{NAME}='maybe' is neither true nor false"):
        env.boolean(NAME, default=True)


def test_a_choice_that_is_none_names_the_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "share")

    with pytest.raises(ImproperlyConfigured, match=f"{NAME}='share' is not one of consumer, classic"):
        env.choice(NAME, default="consumer", of=("consumer", "classic"))


def test_a_list_leaves_out_what_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, " a, ,b,")

    assert env.string_list(NAME, default="x") == ["a", "b"]


@pytest.mark.parametrize("url", ["redis://h:1/0", "redis://:pw@[::1]:6379/0", "unix:///run/redis.sock", "rediss://h"])
def test_a_good_url_is_given_as_it_is(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv(NAME, url)

    assert env.url(NAME, schemes=("redis", "rediss", "unix")) == url


@pytest.mark.parametrize(
    "url", ["http://u:hunter2@h", "redis://u:hunter2@h:port/0", "hunter2", "redis://u:hunter2@[::1/0", "redis:"]
)
def test_a_bad_url_names_its_variable_and_never_its_password(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv(NAME, url)

    with pytest.raises(ImproperlyConfigured, match=f"{NAME} is no URL that starts with redis://") as caught:
        env.url(NAME, schemes=("redis",))

    assert "hunter2" not in str(caught.value)


def test_a_value_of_a_pair_may_hold_an_equals_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "security.protocol=SASL_SSL; sasl.password=a=b;;")

    assert env.key_value_pairs(NAME) == {"security.protocol": "SASL_SSL", "sasl.password": "a=b"}


def test_a_pair_without_an_equals_sign_is_not_quoted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may be half a password."""
    monkeypatch.setenv(NAME, "a=b;sasl.password=hunt;er2")

    with pytest.raises(ImproperlyConfigured, match=f"{NAME}: part 3 is no key=value pair") as caught:
        env.key_value_pairs(NAME)

    assert "er2" not in str(caught.value)


def test_a_value_may_hold_a_semicolon_behind_a_backslash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, r"sasl.password=hunt\;er2;a=b\c")

    assert env.key_value_pairs(NAME) == {"sasl.password": "hunt;er2", "a": r"b\c"}


def test_a_broken_list_of_pairs_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "sasl.username=u;=hunter2")

    with pytest.raises(ImproperlyConfigured) as caught:
        env.key_value_pairs(NAME)

    assert "hunter2" not in str(caught.value)


def test_a_folder_must_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(NAME, " ")
    assert env.folder(NAME) is None
    monkeypatch.setenv(NAME, str(tmp_path))
    assert env.folder(NAME) == tmp_path
    monkeypatch.setenv(NAME, str(tmp_path / "missing"))
    with pytest.raises(ImproperlyConfigured, match="missing', which is no folder"):
        env.folder(NAME)


def test_a_variable_that_nothing_has_read_is_named(monkeypatch: pytest.MonkeyPatch, settings: LazySettings) -> None:
    monkeypatch.setenv("COUPON_WEB_THREADS", "8")
    monkeypatch.setenv("COUPON_WEB_THREAD", "8")

    settings.UNREAD_SETTINGS = env.unread()
    (found,) = check_unread_settings(None)

    assert (found.id, found.msg) == ("coupons.W013", "COUPON_WEB_THREAD is set, and nothing reads it.")
    assert found.hint
