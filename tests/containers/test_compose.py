"""`docker compose up` with the real docker-compose.yml and Dockerfile, on the stand-ins of tests/support/engine.py."""

import json
from functools import partial

import pytest

from tests.support.composed import NOT_NAMED, Product
from tests.support.engine import until_it_works

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
SERVERS = ["postgres", "redis", "kafka"]
PROGRAMS = ["web", "consumer", "keeper", "jobs"]


def volumes(product: Product) -> set[str]:
    return set(product.engine.run("docker", "volume", "ls", "--quiet").stdout.split())


def test_it_is_healthy_with_the_settings_of_the_example(product: Product) -> None:
    watched = [*SERVERS, "web"]

    assert {name: product.inspect(name, "{{.State.Health.Status}}") for name in watched} == dict.fromkeys(
        watched, "healthy"
    )
    assert product.inspect("migrate", "{{.State.ExitCode}}") == "0"
    product.get_coupon("42")
    assert product.ledger_closes()


def test_the_image_is_built_without_a_warning(product: Product) -> None:
    assert "warning" not in product.built.lower()


@pytest.mark.parametrize("service", [*SERVERS, *PROGRAMS])
def test_nothing_runs_as_root(product: Product, service: str) -> None:
    status = product.inside(service, "cat", "/proc/1/status")
    (users,) = [line.split()[1:] for line in status.splitlines() if line.startswith("Uid:")]

    assert "0" not in users


@pytest.mark.parametrize("service", PROGRAMS)
def test_settings_that_compose_does_not_name_count(product: Product, service: str) -> None:
    variables = product.inside(service, "env").splitlines()

    assert {f"{name}={value}" for name, value in NOT_NAMED.items()} <= set(variables)
    assert "DATABASE_URL=postgres://coupons:pg4tests@postgres:5432/coupons" in variables, "the file's own win"


def test_probes_are_answered_at_the_container_s_address(product: Product) -> None:
    address = product.inspect("web", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
    for path in ("/healthz", "/readyz", "/metrics"):
        said = product.engine.curl("-o", "/dev/null", "-w", "%{http_code}", f"http://{address}:8000{path}")
        assert (path, said.stdout) == (path, "200")


@pytest.mark.parametrize("service", [*PROGRAMS, *SERVERS])
def test_after_a_restart_users_get_coupons(product: Product, service: str) -> None:
    product.compose("restart", service)

    product.get_coupon(f"after-{service}")
    until_it_works(product.ledger_closes, what="the ledger to close")


def test_down_and_up_keeps_coupons_and_leaves_no_volume(product: Product) -> None:
    product.get_coupon("before")
    product.compose("down")

    assert volumes(product) == {f"coupons_{server}" for server in SERVERS}
    product.up()
    until_it_works(partial(product.is_issued, "before"), what="the coupon of before to be there")
    product.get_coupon("after-down")
    until_it_works(product.ledger_closes, what="the ledger to close")
    assert json.loads(product.inspect("redis", "{{json .State.Health.Log}}"))[-1]["Output"] == ""
