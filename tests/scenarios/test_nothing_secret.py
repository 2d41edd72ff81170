"""Nothing secret in what the service says: all that a run writes, answers and stores is searched for what it used."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.urls import reverse

from coupons.admission.scripts import admission_redis
from coupons.auth.api_key_cache import caller_of_key
from coupons.auth.api_keys import MARK
from coupons.auth.caller import Caller
from coupons.auth.jwt import caller_of_token
from coupons.auth.jwt_keys import read_keys
from coupons.messaging.producer import publisher
from coupons.models import ApiKey, Campaign, Coupon, FailEventHistory, Redemption
from coupons.redemption.codes import derive_code
from coupons.runtime.failpoints import REDEMPTION_WRITTEN, WEB_ADMITTED
from couponsite.env import keys_with_fingerprints
from tests.support.issuer import AUDIENCE, ISSUER, SECRET
from tests.support.operators import CAMPAIGNS, COUPONS, EVENTS, JOBS, event_page
from tests.support.process import Process
from tests.support.secret_run import CLOSED, CODE_KEY, REDIS_USER, SecretRun, database_url, redis_url
from tests.support.service import Service, message
from tests.support.topic import read_topic
from tests.support.waiting import wait_until

PAGES = (
    "/healthz",
    "/readyz",
    "/metrics",
    "/api/schema/",
    "/api/docs/",
    "/api/docs/problems",
    "/nowhere",
    "/api/nowhere",
)
Record = Callable[[str, object], None]


@pytest.fixture
def run(service: Service, tmp_path: Path, settings: LazySettings) -> Iterator[SecretRun]:
    made = SecretRun(service, tmp_path)
    settings.CODE_KEYS = keys_with_fingerprints(
        {"codes": CODE_KEY.encode()}, derived=[]
    )  # this process opens campaigns
    rights = ("on", f">{made.redis_password}", "~*", "&*", "+@all")
    redis: Any = admission_redis()
    redis.execute_command("ACL", "SETUSER", REDIS_USER, *rights)
    yield made
    redis.execute_command("ACL", "DELUSER", REDIS_USER)


@pytest.mark.attack(
    "reading what the service says",
    "every output of a run that used {secrets} known secrets: {kib} KiB of logs, answers, pages, rows and messages",
    "none of them, neither as it is nor in base64, hex, HTML or a URL",
)
def test_no_output_of_a_run_has_a_secret(service: Service, run: SecretRun, record_property: Record) -> None:
    consumer = service.manage("run_coupon_consumer", "--loglevel", "DEBUG", **run.environment)
    keeper = service.keeper(**run.environment)
    web = service.web(**run.environment)
    consumer.says("consumer.assigned")
    campaign = service.campaign(1_000)
    shown = run.command("create_api_key", "--name", "shop", "--scope", "apply", but="a made API key").output
    made = next(word for word in shown.split() if word.startswith(f"{MARK}_"))
    run.secrets.add("a made API key", made)

    users_apply(run, campaign, made)
    shop_redeems(run)
    service.arm(WEB_ADMITTED, "raise")
    wait_until(lambda: run.apply(campaign, "crash", run.api_key).status == 500, what="the defect, which comes once")
    service.produce(b"{broken", message(campaign.pk, "stranger", 999))
    wait_until(lambda: FailEventHistory.objects.count() >= 2, what="the failed events are on record")
    for command in (["reconcile_campaigns", "--json"], ["check", "--deploy"], ["retry_failed_coupons"]):
        run.command(*command)
    operators_look(run)
    note_what_is_stored(run)
    run.secrets.note("the processes' command lines", service.left_over())
    for process in (web, consumer, keeper):
        process.stop()
        run.note_process(process)

    assert run.secrets.leaks() == []
    assert "Traceback" in web.output, "the defect is in the log"
    record_property("secrets", len(run.secrets))
    record_property("kib", run.secrets.bytes_noted // 1024)


def users_apply(run: SecretRun, campaign: Campaign, made_key: str) -> None:
    for user, credentials in (("anna", run.token), ("7", run.api_key), ("8", made_key)):  # the last is to be known yet
        wait_until(lambda user=user, key=credentials: run.apply(campaign, user, key).status in (200, 202))  # type: ignore[misc]
    wait_until(lambda: Coupon.objects.filter(user_id="7").exists(), what="a coupon is issued")
    for wrong in (run.wrong_key, f"{run.token[:-4]}AAAA", run.token.replace(".", "..", 1)):
        assert run.apply(campaign, "anna", wrong).status == 401
    run.request("GET", f"/api/v1/campaigns/{campaign.pk}/tickets/7", run.api_key)
    run.request("GET", f"/api/v1/campaigns/{campaign.pk}/tickets/7?key={run.api_key}", run.token)
    run.request("POST", f"/api/v1/campaigns/{campaign.pk}/apply", run.token, body=b"{" * 50)
    for page in PAGES:
        run.request("GET", page, run.api_key)


CODE = "a coupon's code"


def shop_redeems(run: SecretRun) -> None:
    """All of a checkout with one coupon, and mistakes with its code. Only lists for its user and the shop show it."""
    coupon = Coupon.objects.get(user_id="8")
    code = run.secrets.add(CODE, coupon.code)
    plain = run.secrets.add("the code without hyphens", code.replace("-", ""))
    wrong = run.secrets.add("a mistyped code", ("0" if plain[0] != "0" else "2") + plain[1:])
    unknown = run.secrets.add("a code of nobody", derive_code(b"x", campaign_id=uuid4(), sequence=1, user_id="8"))

    def post(path: str, body: dict[str, object], bearer: str = "") -> int:
        return run.request("POST", f"/api/v1/{path}", bearer or run.api_key, json=body).status

    order = {"order_ref": "1001"}
    for typed, status in ((code, 200), (plain.lower(), 200), (wrong, 400), (unknown, 404)):
        assert post("coupons/check", {"code": typed}) == status
    for typed, status in ((code, 201), (wrong, 400), (unknown, 404)):
        assert post("redemptions", {"code": typed, **order, "hold_sec": 600}) == status
    assert post("redemptions", {"code": code, "order_ref": "1002"}) == 409
    assert post("redemptions", {"code": code, **order, "user_id": "9"}) == 403
    assert post("redemptions", {"code": code, **order, code: 1, "order_ref": [code]}) == 400
    assert post("redemptions", {"code": code, **order}, run.token) == 403
    assert post("redemptions", {"code": code, **order}, run.wrong_key) == 401
    use = Redemption.objects.get(coupon=coupon)
    assert post(f"redemptions/{use.pk}/confirm", {}) == 200
    assert post("coupons/revoke", {"code": code, "reason": "fraud"}) == 409
    assert post(f"redemptions/{use.pk}/return", {"reason": "cancelled"}) == 200
    assert post("coupons/revoke", {"code": wrong, "reason": "fraud"}) == 400
    assert post("coupons/revoke", {"code": code, "reason": "fraud"}) == 200
    run.service.arm(REDEMPTION_WRITTEN, "raise")
    assert post("redemptions", {"code": Coupon.objects.get(user_id="7").code, **order}) == 500
    run.request("GET", f"/api/v1/redemptions/{use.pk}", run.api_key)
    run.request("GET", "/api/v1/users/8/coupons", run.api_key, but=CODE)
    run.request("POST", "/api/v1/redemptions", run.api_key, body=f'{{"code": "{code}'.encode())


def operators_look(run: SecretRun) -> None:
    """All pages of the admin, over HTTP."""
    User.objects.create_superuser("chief", password=run.admin_password)
    browser = run.log_in("chief")
    rows = [event_page(event) for event in FailEventHistory.objects.all()]
    rows += [reverse("admin:coupons_apikey_change", args=[key.pk]) for key in ApiKey.objects.all()]
    rows += [reverse("admin:coupons_campaign_change", args=[campaign.pk]) for campaign in Campaign.objects.all()]
    lists = [
        reverse(name) for name in (CAMPAIGNS, COUPONS, EVENTS, JOBS, "admin:coupons_apikey_changelist", "admin:index")
    ]
    for page in [*lists, *rows]:
        but = CODE if page == reverse(COUPONS) else ""  # which the chief may see there
        assert run.request("GET", page, headers=browser, but=but).status == 200, page


def note_what_is_stored(run: SecretRun) -> None:
    """Every row, every message and every key of Redis."""
    for model in apps.get_models():
        but = CODE if model is Coupon else ""
        run.secrets.note(f"the table {model._meta.db_table}", *model._default_manager.values_list(), but=but)
    run.secrets.note("the topic", *((entry.payload, entry.headers) for entry in read_topic()))
    redis: Any = admission_redis()
    for key in redis.scan_iter():
        kind = redis.type(key)
        value = redis.get(key) if kind == b"string" else redis.hgetall(key) if kind == b"hash" else kind
        run.secrets.note("Redis", key, value)


@pytest.mark.parametrize("debug", ["true", "false"])
def test_answers_and_logs_of_an_outage_hold_no_secret(run: SecretRun, debug: str) -> None:
    web = run.web_without_servers(DJANGO_DEBUG=debug)

    ready = run.request("GET", "/readyz", run.api_key)
    for page in [*PAGES, "/admin/", "/admin/coupons/campaign/"]:
        run.request("GET", page, run.token, headers={"Cookie": "sessionid=0123456789abcdef"})
    for bearer in (run.token, run.api_key):
        run.request("POST", "/api/v1/campaigns/6f1f7a52-0000-4000-8000-000000000000/apply", bearer, body=b"{}")
    code = run.secrets.add(CODE, derive_code(b"x", campaign_id=uuid4(), sequence=1, user_id="8"))
    for path in ("coupons/check", "coupons/revoke", "redemptions"):
        body = {"code": code, "order_ref": "1001", "reason": "fraud"}
        run.request("POST", f"/api/v1/{path}", run.api_key, json=body)
    web.stop()
    run.note_process(web)

    assert ready.status == 503
    assert run.secrets.leaks() == []
    logged = "Traceback" if debug == "true" else "admin.unavailable error="
    assert logged in web.output, "the admin needs PostgreSQL, and the log says that it is down"


LEDGER, TOPIC = "reconcile_campaigns", "create_topic"
NAME = "test_x"  # a database of tests, as failpoints are on
WRONG = {
    "another database": (LEDGER, "DATABASE_URL", f"mysql://u:{{secret}}@127.0.0.1/{NAME}"),
    "no database there": (LEDGER, "DATABASE_URL", f"postgres://u:{{secret}}@{CLOSED}/{NAME}"),
    "a database URL that is none": (LEDGER, "DATABASE_URL", f"postgres://u:{{secret}}@[127.0.0.1/{NAME}"),
    "a database option that is none": (LEDGER, "DATABASE_URL", f"postgres://u:{{secret}}@{CLOSED}/{NAME}?sslmode=no"),
    "a wrong database password": (LEDGER, "DATABASE_URL", database_url("{secret}")),
    "a Redis URL that is none": (LEDGER, "REDIS_URL", "http://:{secret}@127.0.0.1/0"),
    "no Redis there": (LEDGER, "REDIS_URL", f"redis://:{{secret}}@{CLOSED}/0"),
    "a wrong Redis password": (LEDGER, "REDIS_URL", redis_url("{secret}")),
    "no pair of Kafka's": (TOPIC, "COUPON_KAFKA_CLIENT_CONFIG", "sasl.password:{secret}"),
    "no setting of Kafka's": (TOPIC, "COUPON_KAFKA_CLIENT_CONFIG", "sasl.pasword={secret}"),
    "a value that is not Kafka's": (TOPIC, "COUPON_KAFKA_CLIENT_CONFIG", "sasl.password={secret};security.protocol=no"),
    "a broker that takes no passwords": (
        TOPIC,
        "COUPON_KAFKA_CLIENT_CONFIG",
        "security.protocol=SASL_PLAINTEXT;sasl.mechanism=PLAIN;sasl.username=u;sasl.password={secret}",
    ),
    "no message keys": (LEDGER, "COUPON_MESSAGE_KEYS", "{secret}"),
    "a message key without an id": (LEDGER, "COUPON_MESSAGE_KEYS", "={secret}"),
    "a code key without an id": (LEDGER, "COUPON_CODE_KEYS", "={secret}"),
    "a short code key": (LEDGER, "COUPON_CODE_KEYS", "k={secret}"),
    "a short message key": (LEDGER, "COUPON_MESSAGE_KEYS", "k={secret}"),
}


@pytest.mark.attack(
    "wrong settings that hold a secret",
    f"{len(WRONG)} of them, each with a command that needs it",
    "exit code 1 or 2, and an error that names the setting or the server, and not the secret",
)
def test_no_error_about_a_wrong_setting_repeats_it(service: Service, run: SecretRun) -> None:
    service.campaign(5)  # about which the ledger asks every server
    secret = run.secrets.add("what was set", "wrongset-1f2e3d4c5b6a")

    def attempt(what: str) -> Process:
        command, name, value = WRONG[what]
        return run.command(command, **run.timeouts, **{name: value.replace("{secret}", secret)})

    with ThreadPoolExecutor(4) as pool:
        ended = dict(zip(WRONG, pool.map(attempt, WRONG), strict=True))

    assert run.secrets.leaks() == []
    for what, process in ended.items():
        assert process.exit_code in (1, 2), f"{what}:\n{process.output}"
        assert process.output.strip(), f"{what}: nothing was said"


def test_no_repr_has_a_secret(run: SecretRun, settings: LazySettings, tmp_path: Path) -> None:
    (tmp_path / "bad.HS256.secret").write_text(run.secrets.add("a short JWT secret", "short-secret-1"))
    settings.JWT_KEYS_DIR, settings.JWT_ISSUER, settings.JWT_AUDIENCE = tmp_path, ISSUER, AUDIENCE
    settings.API_KEYS = [run.api_key]
    keys, errors = read_keys(tmp_path)
    callers: list[Caller] = [caller_of_token(run.token), caller_of_key(run.api_key.encode())]

    run.secrets.note("reprs", *map(repr, [keys, errors, callers, settings, admission_redis(), publisher()]))
    run.secrets.note("texts", *map(str, [*errors, *callers]))

    assert run.secrets.leaks() == []
    assert errors
    assert SECRET.encode() == keys["shared"].key, "the key that was not shown is there"


def test_a_program_that_tells_is_found_out(run: SecretRun) -> None:
    """What this search is worth: the same run of a command that prints its settings."""
    names = (
        "SECRET_KEY",
        "SECRET_KEY_FALLBACKS",
        "DATABASES",
        "REDIS_URL",
        "KAFKA_CLIENT_CONFIG",
        "MESSAGE_KEYS",
        "CODE_KEYS",
        "API_KEYS",
    )
    values = ", ".join(f"settings.{name}" for name in names)
    run.command("shell", "-v", "0", "-c", f"from django.conf import settings; print({values})")

    found = {leak.partition(" (")[0] for leak in run.secrets.leaks()}

    assert found >= {
        "DJANGO_SECRET_KEY", "database password", "Redis password", "sasl.password", "message key new",
        "message key old", "code key", "COUPON_API_KEYS", "a former secret",
    }  # fmt: skip
