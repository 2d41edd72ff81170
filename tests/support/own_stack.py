"""A pytest plugin: each of pytest-xdist's workers has a stack of its own, since tests stop servers and empty Redis.

The first worker takes the stack that `bin/stack run` gave to the whole run; `make test` has started one more for each
other worker beside it, named `-2`, `-3` and so on. It must be loaded by `-p`, since Django's settings are read before
any conftest.py.
"""

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from couponsite.env_file import read_env_file


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests() -> Generator[None]:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    if number := int(worker.removeprefix("gw")):
        _take(Path(f"{os.environ['STACK_HOME']}-{number + 1}"))
    return (yield)


def _take(home: Path) -> None:
    file = home / "env"
    if not file.is_file():
        raise pytest.UsageError(f"No stack in {home} for this worker: `make test` starts one for each.")
    os.environ |= read_env_file(file)
    os.environ |= {"STACK_HOME": str(home), "COUPON_ENV_FILE": str(file)}
