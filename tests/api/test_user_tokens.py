"""Users with a token (JWT): which tokens open the door, and that each opens it for one user alone."""

import base64
import hashlib
import hmac
import json
import re
import time
from typing import Any
from uuid import uuid4

import jwt
import pytest
from django.conf import LazySettings

from coupons.models import Campaign
from tests.support.http import Api, assert_problem, json_of
from tests.support.issuer import AUDIENCE, ISSUER, SECRET, Issuer, new_key, public_jwk
from tests.support.process import ROOT
from tests.support.service import Service


@pytest.fixture
def campaign(service: Service) -> Campaign:
    return service.campaign(10)


def refused(token: str, campaign: Campaign) -> str:
    """What the refusal says; it must be the same for everything that the API has."""
    api = Api(f"Bearer {token}")
    answers = [api.apply(campaign), api.ticket(campaign), api.campaign(campaign), api.get("campaigns")]
    documents = [assert_problem(answer, 401, "unauthenticated") for answer in answers]
    assert all(document == documents[0] for document in documents)
    return str(documents[0]["detail"])


def part(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


# --- what opens ---


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256", "EdDSA"])
def test_a_user_applies_and_sees_the_ticket(campaign: Campaign, issuer: Issuer, algorithm: str) -> None:
    issuer.add("other", algorithm)
    api = Api(issuer.bearer("anna", kid="other"))

    assert api.apply(campaign, "anna").status_code == 202
    assert json_of(api.ticket(campaign, "anna"))["sequence"] == 1
    assert json_of(api.campaign(campaign))["remaining"] == 9


def test_a_body_without_a_user_means_the_token_s(campaign: Campaign, issuer: Issuer) -> None:
    api = Api(issuer.bearer("anna"))

    first = api.post(f"campaigns/{campaign.pk}/apply", {})
    again = api.post(f"campaigns/{campaign.pk}/apply")

    assert (first.status_code, again.status_code) == (202, 200)
    assert json_of(api.ticket(campaign, "anna"))["sequence"] == json_of(first)["sequence"]


def test_keys_change_without_a_restart(campaign: Campaign, issuer: Issuer) -> None:
    old = Api(issuer.bearer("anna", kid="now"))
    assert old.apply(campaign, "anna").status_code == 202

    issuer.add("next", "EdDSA")
    assert Api(issuer.bearer("ben", kid="next")).apply(campaign, "ben").status_code == 202
    assert old.apply(campaign, "anna").status_code == 200, "both are good while the issuer changes over"

    issuer.remove("now")
    assert_problem(old.apply(campaign, "anna"), 401, "unauthenticated")
    assert Api(issuer.bearer("ben", kid="next")).apply(campaign, "ben").status_code == 200


def test_one_bad_file_costs_itself_alone(campaign: Campaign, issuer: Issuer) -> None:
    (issuer.folder / "broken.RS256.pem").write_text("no key")

    assert Api(issuer.bearer("anna")).apply(campaign, "anna").status_code == 202


def test_another_claim_can_be_the_user(campaign: Campaign, issuer: Issuer, settings: LazySettings) -> None:
    settings.JWT_USER_CLAIM = "uid"

    assert Api(issuer.bearer("somebody", uid="anna")).apply(campaign, "anna").status_code == 202
    assert "uid is missing" in refused(issuer.token("anna"), campaign)


def test_a_clock_that_is_a_little_wrong_is_forgiven(campaign: Campaign, issuer: Issuer, settings: LazySettings) -> None:
    settings.JWT_LEEWAY_SEC = 60
    now = time.time()

    assert Api(issuer.bearer("anna", exp=now - 30, nbf=now + 30)).apply(campaign, "anna").status_code == 202


# --- what does not ---


@pytest.mark.attack(
    "expired, early, for another audience, from another issuer",
    "17 tokens with one wrong claim each",
    "401 that says which",
)
@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": 1}, "expired"),
        ({"nbf": 4_000_000_000}, "not valid yet"),
        ({"aud": "another-shop"}, "another audience"),
        ({"aud": []}, "aud is missing"),
        ({"iss": "https://evil.test"}, "another issuer"),
        ({"leave_out": "exp"}, "exp is missing"),
        ({"leave_out": "aud"}, "aud is missing"),
        ({"leave_out": "iss"}, "iss is missing"),
        ({"leave_out": "sub"}, "sub is missing"),
        ({"exp": "soon"}, "cannot be read"),
        ({"exp": 1e400}, "cannot be read"),
        ({"nbf": [1]}, "cannot be read"),
        ({"sub": 4.2}, "no user id"),
        ({"sub": ""}, "no user id"),
        ({"sub": "a b"}, "no user id"),
        ({"sub": "a\x00b"}, "no user id"),
        ({"sub": "x" * 129}, "no user id"),
    ],
)
def test_a_token_that_says_the_wrong_thing(
    campaign: Campaign, issuer: Issuer, claims: dict[str, object], reason: str
) -> None:
    # the same values serve the front's turn, so nothing is taken out of them
    named = {"user_id" if name == "sub" else name: value for name, value in claims.items()}

    assert reason in refused(issuer.token(**named), campaign)  # type: ignore[arg-type]


@pytest.mark.parametrize("user_id", [".", ".."])
def test_a_user_whom_no_url_can_carry(campaign: Campaign, issuer: Issuer, user_id: str) -> None:
    assert "no user id" in refused(issuer.token(user_id), campaign)


@pytest.mark.attack("`alg: none`", "a good payload with none, None, NONE or nothing as its algorithm", "401")
def test_an_unsigned_token(campaign: Campaign, issuer: Issuer) -> None:
    _, payload, _ = issuer.token("42").split(".")

    for algorithm in ("none", "None", "NONE", ""):
        assert "algorithm" in refused(f"{part({'alg': algorithm, 'kid': 'now'})}.{payload}.", campaign)


@pytest.mark.attack(
    "RS256 taken for HS256",
    "signed with the public key as if it were a secret",
    "401: a key's file fixes its algorithm",
)
def test_a_public_key_used_as_a_secret(campaign: Campaign, issuer: Issuer) -> None:
    """The confusion of RS256 with HS256: everybody has the public key, and could sign with it."""
    issuer.add("rsa", "RS256")
    public = (issuer.folder / "rsa.RS256.pem").read_bytes()
    _, payload, _ = issuer.token("42").split(".")
    signed = f"{part({'alg': 'HS256', 'kid': 'rsa'})}.{payload}"
    mac = base64.urlsafe_b64encode(hmac.digest(public, signed.encode(), hashlib.sha256)).rstrip(b"=").decode()

    assert "algorithm" in refused(f"{signed}.{mac}", campaign)


@pytest.mark.attack("a forged token", "signed with a key of the same id that is not ours", "401")
def test_another_s_signature(campaign: Campaign, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> None:
    forger = Issuer(tmp_path_factory.mktemp("forger"))
    forger.add("now", "ES256")

    assert "signature is wrong" in refused(forger.token("42"), campaign)


@pytest.mark.attack("a changed token", "another user's id in a good token", "401")
def test_a_changed_token(campaign: Campaign, issuer: Issuer) -> None:
    head, _, signature = issuer.token("42").split(".")
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "43", "exp": time.time() + 300}

    assert "signature is wrong" in refused(f"{head}.{part(claims)}.{signature}", campaign)


@pytest.mark.parametrize("kid", ["", "unknown", 7, ["now"], {"now": 1}, "../now", "now\x00"])
def test_a_header_that_names_no_key(campaign: Campaign, issuer: Issuer, kid: object) -> None:
    _, payload, signature = issuer.token("42").split(".")
    detail = refused(f"{part({'alg': 'ES256', 'kid': kid})}.{payload}.{signature}", campaign)

    assert "kid" in detail or "cannot be read" in detail


@pytest.mark.attack("nonsense as a token", "9 forms, among them 9 KB and 5,000 nested arrays", "401, never 500")
@pytest.mark.parametrize(
    "token",
    [
        "..",
        "a.b.c",
        f"{part([])}.e30.x",
        f"{part('x')}.e30.x",
        f"{part({'alg': 'ES256', 'kid': 'now', 'crit': ['b64'], 'b64': False})}.e30.x",
        f"{part({'alg': 'ES256', 'kid': 'now'})}.{part([1])}.AAAA",
        f"{part({'alg': 'ES256', 'kid': 'now'})}.{'A' * 9_000}.AAAA",
        f"{base64.urlsafe_b64encode(b'[' * 5_000).decode().rstrip('=')}.e30.x",
        "\u00e9.\u00e9.\u00e9",
    ],
)
def test_what_is_hardly_a_token(campaign: Campaign, issuer: Issuer, token: str) -> None:
    assert token not in refused(token, campaign)


def test_without_a_folder_no_token_is_taken(campaign: Campaign, issuer: Issuer, settings: LazySettings) -> None:
    token = issuer.token("42")
    settings.JWT_KEYS_DIR = None

    assert "COUPON_JWT_KEYS_DIR" in refused(token, campaign)


# --- tokens of common issuers ---


def simplejwt(issuer: Issuer, settings: LazySettings, **claims: object) -> str:
    """A token as djangorestframework-simplejwt signs one by default: no kid, iss or aud, and a number as the user."""
    settings.JWT_ISSUER = settings.JWT_AUDIENCE = None
    settings.JWT_USER_CLAIM = "user_id"
    issuer.remove("now")
    issuer.add("simplejwt", "HS256")
    payload = {"token_type": "access", "exp": int(time.time()) + 300, "jti": "9", "user_id": 42}
    return jwt.encode(payload | claims, SECRET, "HS256")


def test_a_token_of_simplejwt_is_taken(campaign: Campaign, issuer: Issuer, settings: LazySettings) -> None:
    user = Api(f"Bearer {simplejwt(issuer, settings)}")

    assert user.apply(campaign, "42").status_code == 202
    assert user.ticket(campaign, "42").status_code == 200


def test_a_refresh_token_opens_nothing(campaign: Campaign, issuer: Issuer, settings: LazySettings) -> None:
    assert "refresh token" in refused(simplejwt(issuer, settings, token_type="refresh"), campaign)


@pytest.mark.parametrize("claim", ["aud", "iss"])
def test_a_claim_that_should_be_missing_is_refused(
    campaign: Campaign, issuer: Issuer, settings: LazySettings, claim: str
) -> None:
    setting = {"aud": "COUPON_JWT_AUDIENCE", "iss": "COUPON_JWT_ISSUER"}[claim]

    assert setting in refused(simplejwt(issuer, settings, **{claim: "another shop"}), campaign)


def test_a_token_without_kid_needs_a_folder_with_one_key(
    campaign: Campaign, issuer: Issuer, settings: LazySettings
) -> None:
    token = simplejwt(issuer, settings)
    issuer.add("another", "ES256")

    assert "exactly one key" in refused(token, campaign)


def test_an_access_token_of_cognito_is_taken(campaign: Campaign, issuer: Issuer, settings: LazySettings) -> None:
    """A key set whose kids end with `=`, and no aud."""
    settings.JWT_AUDIENCE = None
    kid = "GpYLqpWh/W2q0q0q0q0q0q0q0q0q0q0q0q0q0q0q0q0="
    key = issuer.keep(kid, "RS256", new_key("RS256"))
    (issuer.folder / "jwks.json").write_text(json.dumps({"keys": [public_jwk(key, kid=kid)]}))
    token = issuer.token("anna", kid=kid, leave_out="aud", token_use="access", client_id="x")

    assert Api(f"Bearer {token}").apply(campaign, "anna").status_code == 202


@pytest.mark.parametrize("number", [-1, True, 2**53, 42.0, 10**200])
def test_a_number_that_is_no_user_id(campaign: Campaign, issuer: Issuer, number: object) -> None:
    assert "no user id" in refused(issuer.token(number), campaign)


def test_every_401_names_the_setting_or_page_that_helps(
    campaign: Campaign, issuer: Issuer, settings: LazySettings
) -> None:
    good = issuer.token("42")
    head, payload, _ = good.split(".")
    wrong: list[dict[str, Any]] = [{"exp": 1}, {"nbf": 4e9}, {"aud": "x"}, {"iss": "x"}]
    tokens = [
        *(issuer.token("42", leave_out=name) for name in ("exp", "iss", "aud", "sub")),
        *(issuer.token("42", **claims) for claims in wrong),
        *(f"{part({'alg': 'ES256', **more})}.{payload}.AAAA" for more in ({}, {"kid": "x"})),
        f"{part({'alg': 'HS256', 'kid': 'now'})}.{payload}.AAAA",
        f"{head}.{payload}.AAAA",
        issuer.token("a b"),
        f"{head}.{'A' * 9_000}.AAAA",
        "a.b.c",
        "an-api-key",
        "coupon_0123456789",
    ]
    details = [refused(token, campaign) for token in tokens]
    details += [str(json_of(Api(header).campaign(campaign))["detail"]) for header in ("", "Basic eA==", "Bearer")]
    settings.JWT_KEYS_DIR = None
    details.append(refused(good, campaign))

    for detail in details:
        pages = re.findall(r"(docs/[a-z/-]+\.md)#([a-z0-9-]+)", detail)
        assert pages or "COUPON_" in detail, detail
        for page, section in pages:
            assert section in sections_of(page), detail


def sections_of(page: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)", (ROOT / page).read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- for one user alone ---


@pytest.mark.attack(
    "another user's id",
    "in body and address; with and without a ticket and a campaign",
    "403, the same bytes each time",
)
def test_another_user_s_id_is_refused_first(campaign: Campaign, issuer: Issuer) -> None:
    """The same bytes whether the other user has a ticket or not, and whether there is such a campaign or not."""
    Api().apply(campaign, "ben")
    anna = Api(issuer.bearer("anna"))
    nowhere = str(uuid4())

    answers = [anna.ticket(where, user) for where in (campaign, nowhere) for user in ("ben", "nobody", "\u00e9")]
    answers += [anna.apply(where, user) for where in (campaign, nowhere) for user in ("ben", "nobody")]

    assert_problem(answers[0], 403, "forbidden")
    assert {(answer.status_code, answer.content) for answer in answers} == {(403, answers[0].content)}
    assert Api().ticket(campaign, "nobody").status_code == 404, "nobody was let in under that name"


@pytest.mark.attack("a user who manages", "create, change, open, pause, resume, close", "403")
def test_a_user_manages_nothing(campaign: Campaign, issuer: Issuer) -> None:
    user = Api(issuer.bearer("anna"))

    assert_problem(user.post("campaigns", {"name": "mine", "quantity": 1}), 403, "forbidden")
    assert_problem(user.patch(f"campaigns/{campaign.pk}", {"quantity": 1_000}), 403, "forbidden")
    for action in ("open", "pause", "resume", "close"):
        assert_problem(user.act(campaign, action), 403, "forbidden")


@pytest.mark.attack(
    "a campaign that is not announced", "a user asks for a draft", "404, as for one that does not exist"
)
def test_a_user_has_not_heard_of_drafts(service: Service, issuer: Issuer) -> None:
    draft = service.campaign(10, opened=False)
    shown = service.campaign(10)
    user = Api(issuer.bearer("anna"))

    assert_problem(user.campaign(draft), 404, "not-found")
    assert user.campaign(draft).content == user.campaign(uuid4()).content
    assert [each["id"] for each in json_of(user.get("campaigns"))["results"]] == [str(shown.pk)]


def test_a_wrong_body_is_told_so(campaign: Campaign, issuer: Issuer) -> None:
    anna = Api(issuer.bearer("anna"))

    for user_id in (42, None, "", "a b", ["anna"]):
        assert_problem(anna.apply(campaign, user_id), 400, "invalid")
    assert_problem(anna.post(f"campaigns/{campaign.pk}/apply", ["anna"]), 400, "invalid")
