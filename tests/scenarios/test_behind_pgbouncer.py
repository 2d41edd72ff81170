"""PgBouncer in transaction mode before PostgreSQL: what needs a session goes past it, or says so and ends."""

import re
from collections.abc import Iterator

import pytest
from django.db import connection, connections

from coupons.recovery.locks import Work, work_lock
from harness import free_port
from tests.support.pgbouncer import TEXT, PgBouncer
from tests.support.process import ROOT, Process
from tests.support.promises import assert_history_holds
from tests.support.service import Service

pytestmark = pytest.mark.system


@pytest.fixture
def pooler(service: Service) -> PgBouncer:
    return PgBouncer(service)


@pytest.fixture
def role() -> Iterator[None]:
    """What a test sets for the role in its database ends with the test."""
    yield
    run("ALTER ROLE {user} IN DATABASE {name} RESET ALL")


def run(statements: str) -> None:
    names = {key.lower(): connection.ops.quote_name(connection.settings_dict[key]) for key in ("USER", "NAME")}
    with connection.cursor() as cursor:
        cursor.execute(statements.format(**names))


def set_as_documented() -> None:
    statements = re.findall(r"^ALTER ROLE .*;$", TEXT, re.MULTILINE)
    assert len(statements) == 8
    run("\n".join(statements).replace("ROLE coupons IN DATABASE coupons", "ROLE {user} IN DATABASE {name}"))


def start_web(service: Service, **variables: str) -> Process:
    return service.start("web", [str(ROOT / "bin" / "web")], WEB_PORT=str(free_port()), **variables)


def test_promises_are_kept_behind_a_pooler(service: Service, pooler: PgBouncer, role: None) -> None:
    set_as_documented()
    service.everything("--solo", **pooler.urls)
    second = service.keeper(**pooler.urls)
    campaign = service.campaign(quantity=5_000)
    crowd = service.crowd(campaign)
    crowd.wait_for_promises("with two keepers", users=100)

    assert service.ticket(campaign, next(iter(crowd.promises(campaign.pk)))).status == 200
    assert_history_holds(crowd, campaigns=[campaign])
    assert service.run("reconcile_campaigns", **pooler.urls).exit_code == 0
    assert service.run("check", "--deploy", "--tag", "session", **pooler.urls).exit_code == 0
    assert "lock.lost" not in second.output


def test_nothing_starts_where_its_options_are_refused(service: Service, pooler: PgBouncer) -> None:
    web = start_web(service, **pooler.only)
    keeper = service.run("run_keeper", "--once", **pooler.only)

    for process in (web, keeper):
        assert process.wait() == 1
        assert "coupons.E023" in process.output
        assert "DATABASE_URL: a pooler refuses the options of PostgreSQL's sessions." in process.output
        assert "COUPON_DATABASE_DIRECT_URL" in process.output


@pytest.mark.parametrize(
    "command",
    [["run_keeper", "--once"], ["run_coupon_consumer", "--solo"], ["reconcile_campaigns"], ["retry_failed_coupons"]],
    ids=lambda command: command[0],
)
def test_nothing_starts_where_its_options_are_dropped(service: Service, command: list[str]) -> None:
    pooler = PgBouncer(service, more="ignore_startup_parameters = options")
    process = service.run(*command, **pooler.only)

    assert process.wait() == 1
    assert "statement_timeout is 0, not 10s" in process.output


def test_a_direct_url_that_is_pooled_is_found(service: Service, pooler: PgBouncer) -> None:
    pooled = pooler.urls["DATABASE_URL"]
    keeper = service.run("run_keeper", "--once", DATABASE_URL=pooled, COUPON_DATABASE_DIRECT_URL=pooled)

    assert keeper.wait() == 1
    assert "COUPON_DATABASE_DIRECT_URL: a pooler refuses the options" in keeper.output


def test_web_names_what_its_role_lacks(service: Service, pooler: PgBouncer, role: None) -> None:
    web = start_web(service, **pooler.urls)
    assert web.wait() == 1
    statements = re.findall(r"ALTER ROLE [^;]+;", web.output)

    assert "statement_timeout is 0, not 10s" in web.output
    with connection.cursor() as cursor:
        cursor.execute(" ".join(statements))
    pooler.start()
    service.web(**pooler.urls)


def test_one_process_at_a_time_holds_a_lock(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a pooler as well, should one be there: sessions are given to whoever comes next, with their locks."""
    pooler = PgBouncer(service, more="ignore_startup_parameters = options")
    with monkeypatch.context() as patch:
        patch.setitem(connections.settings["default"], "PORT", str(pooler.port))

        with work_lock(Work.REBUILD) as first, work_lock(Work.REBUILD) as second:
            assert (first, second) == (True, False)
        with work_lock(Work.REBUILD) as after:
            assert after
