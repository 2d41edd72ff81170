import pytest

from tests.support.http import Api
from tests.support.service import Service


@pytest.fixture
def api(service: Service) -> Api:
    """The API in this process, on the three real servers."""
    return Api()
