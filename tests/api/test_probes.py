"""A kubelet, a load balancer and a Prometheus ask by the address of a host or pod, as each of them is used to."""

from http.client import HTTPResponse

from coupons.api.health import PROBES
from tests.support.raw_http import connect
from tests.support.service import Service

REQUESTS = {
    "a pod's address": "GET {path} HTTP/1.1\r\nHost: 10.42.0.7:8000\r\n",
    "a pod's address of IPv6": "GET {path} HTTP/1.1\r\nHost: [fd00:10:42::7]:8000\r\n",
    "a name that is no host name": "GET {path} HTTP/1.1\r\nHost: coupons_web_1:8000\r\n",
    "an empty host": "GET {path} HTTP/1.1\r\nHost:\r\n",
    "HTTP/1.0 without a host": "GET {path} HTTP/1.0\r\n",
    "HEAD": "HEAD {path} HTTP/1.1\r\nHost: 10.42.0.7:8000\r\n",
    "OPTIONS of HTTP/1.0": "OPTIONS {path} HTTP/1.0\r\n",
    "the whole address": "GET http://10.42.0.7:8000{path} HTTP/1.1\r\nHost: 10.42.0.7:8000\r\n",
    "a query": "GET {path}?from=prometheus HTTP/1.1\r\nHost: 10.42.0.7:8000\r\n",
    "by plain http, and says so": "GET {path} HTTP/1.1\r\nHost: 10.42.0.7:8000\r\nX-Forwarded-Proto: http\r\n",
}
NO_PROBES = ("/admin/login/", "/api/docs/", "/api/v1/campaigns", "/healthz/", "/nothing")


def status_of(service: Service, request: str) -> int:
    with connect(service.url) as connection:
        connection.sendall(f"{request}Connection: close\r\n\r\n".encode())
        response = HTTPResponse(connection, method=request.partition(" ")[0])
        response.begin()
        response.close()
        return response.status


def test_probes_answer_whatever_the_host_is(service: Service) -> None:
    service.web(DJANGO_ALLOWED_HOSTS="coupons.example.test", COUPON_TRUSTED_PROXIES="127.0.0.1")

    said = {
        (path, how): status_of(service, request.format(path=path))
        for path in sorted(PROBES)
        for how, request in REQUESTS.items()
    }

    assert said == dict.fromkeys(said, 200)


def test_all_else_is_refused_to_an_unknown_host(service: Service) -> None:
    service.web(DJANGO_ALLOWED_HOSTS="coupons.example.test")

    said = {path: status_of(service, REQUESTS["a pod's address"].format(path=path)) for path in NO_PROBES}

    assert said == dict.fromkeys(NO_PROBES, 400)
