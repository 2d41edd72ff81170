"""docs/deploy/nginx.conf with what its head allows to change, and clients of it from several addresses."""

import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_connection
from typing import Any

import urllib3

from harness import free_port
from tests.support.authority import Authority
from tests.support.process import ROOT

CONF = ROOT / "docs" / "deploy" / "nginx.conf"
NAME = "localhost"
OUTSIDE = "127.0.0.1"
INSIDE = "127.0.0.2"
UPSTREAM = "        server 127.0.0.1:8000 max_fails=20 fail_timeout=5s;\n"
BELOW_A_PATH = (
    "location /api/ ",
    "location /static/ ",
    "location /admin/ ",
    "location ~ ^/(healthz|readyz|metrics)$ ",
    '"type":"/api/docs/problems#',
)
"""The path stands before each of these: docs/deploy/own-servers.md says so."""


class Front:
    """An nginx before the upstreams, which are host:port; `command` runs it in the foreground.

    With a `prefix` it shows the service below that path, and takes it off or passes it on.
    """

    def __init__(
        self, folder: Path, *upstreams: str, buffers: bool = True, prefix: str = "", takes_off: bool = False
    ) -> None:
        authority = Authority(folder)
        certificate, key = authority.issue("nginx", hosts=(NAME,))
        self.ca = authority.ca
        self.http_port, self.https_port = free_port(), free_port()
        self.conf = folder / "nginx.conf"
        self.conf.write_text(
            _changed(
                {
                    "listen 80 ": f"listen {self.http_port} ",
                    "listen 443 ": f"listen {self.https_port} ",
                    "server_name coupons.example.test;": f"server_name {NAME};",
                    "return 308 https://coupons.example.test$": f"return 308 https://{NAME}:{self.https_port}$",
                    "ssl_certificate /etc/ssl/coupons/fullchain.pem;": f"ssl_certificate {certificate};",
                    "ssl_certificate_key /etc/ssl/coupons/privkey.pem;": f"ssl_certificate_key {key};",
                    UPSTREAM: "".join(UPSTREAM.replace("127.0.0.1:8000", address) for address in upstreams),
                    "        10.0.0.0/8 1;": f"        {INSIDE} 1;",
                    "/var/log/nginx/": f"{folder}/",
                    "proxy_request_buffering on;": f"proxy_request_buffering {'on' if buffers else 'off'};",
                    **{text: text.replace("/", f"{prefix}/", 1) for text in BELOW_A_PATH},
                    **({"proxy_pass ": f"rewrite ^{prefix}(/.*)$ $1 break; proxy_pass "} if takes_off else {}),
                }
            )
        )
        self.command = ["nginx", "-c", str(self.conf), "-g", f"daemon off; pid {folder}/nginx.pid;"]

    def test(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self.command, "-t"], capture_output=True, text=True, check=False)

    def request(
        self, method: str, path: str, *, source: str = OUTSIDE, headers: dict[str, str] | None = None, **more: Any
    ) -> urllib3.BaseHTTPResponse:
        with urllib3.HTTPSConnectionPool(
            "127.0.0.1",
            self.https_port,
            ca_certs=str(self.ca),
            server_hostname=NAME,
            assert_hostname=NAME,
            source_address=(source, 0),
            retries=False,
            timeout=20,
        ) as pool:
            return pool.urlopen(method, path, headers={"Host": NAME, **(headers or {})}, redirect=False, **more)

    def connect(self, *, name: str = NAME, timeout: float = 20) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(self.ca))
        plain = create_connection(("127.0.0.1", self.https_port), timeout=timeout)
        try:
            return context.wrap_socket(plain, server_hostname=name)
        except BaseException:
            plain.close()
            raise

    def answers(self) -> bool:
        try:
            return self.request("GET", "/nothing").status == 404
        except urllib3.exceptions.HTTPError:
            return False


def _changed(changes: dict[str, str]) -> str:
    text = CONF.read_text()
    for old, new in changes.items():
        assert old in text, f"nginx.conf no longer says {old}"
        text = text.replace(old, new)
    return text


@contextmanager
def address_of_our_own(address: str) -> Iterator[str]:
    """A public address on loopback, from which a client of this machine can come. Needs root."""
    subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    try:
        yield address
    finally:
        subprocess.run(["ip", "address", "delete", f"{address}/32", "dev", "lo"], check=True)
