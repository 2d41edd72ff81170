"""What a document tells people to type, typed."""

import subprocess

from tests.support.process import ROOT
from tests.support.service import Service


def typed(script: str, service: Service, **more: str) -> subprocess.CompletedProcess[str]:
    """In the project's folder, with the settings of the service around the test, and `more` of them."""
    environment = service.environment | {"WEB_PORT": service.url.rsplit(":", 1)[1]} | more
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
