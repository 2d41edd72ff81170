"""One container engine for all tests of this folder; a machine that cannot run one skips them, and says why."""

from collections.abc import Iterator

import pytest

from tests.support.composed import Product
from tests.support.engine import CannotRun, Engine


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    try:
        made = Engine()
    except CannotRun as reason:
        pytest.skip(f"containers are not run here: {reason}")
    yield made
    made.close()


@pytest.fixture(scope="module")
def product(engine: Engine) -> Iterator[Product]:
    try:
        yield Product(engine)
    finally:
        engine.run("docker", "compose", "down", "--volumes", check=False)
        (engine.project / ".env").unlink()
