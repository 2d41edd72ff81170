"""Whatever clients do, in any order, the checkout and its model say the same after every step.

`make fuzz` tries more: CHECKOUT_EXAMPLES=300 sequences, of up to CHECKOUT_STEPS=40 steps each.
"""

import os
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from coupons.auth.api_keys import create_api_key
from coupons.models import Campaign, CampaignState, Coupon, CouponEvent, Redemption, Scope
from coupons.redemption.codes import derive_code
from coupons.redemption.lapsed_holds import tidy_lapsed_holds
from coupons.runtime.clock import database_now
from tests.support.checkout import assert_lives_are_whole
from tests.support.checkout_model import Answer, Life, Terms, Use
from tests.support.http import Api, json_of
from tests.support.service import Service
from tests.support.waiting import wait_until

IS_FUZZED = "CHECKOUT_EXAMPLES" in os.environ
EXAMPLES = int(os.environ.get("CHECKOUT_EXAMPLES", "12"))
STEPS = int(os.environ.get("CHECKOUT_STEPS", "40"))
DAY = timedelta(days=1)
CLIENTS = ("all", "narrow", "reader")
"""`narrow` may touch one campaign of two; `reader` may not redeem, nor revoke."""
coupons, numbers = st.sampled_from([0, 0, 0, 1]), st.integers(0, 11)
users = st.sampled_from([None, None, None, None, 0, 1])
clients = st.sampled_from(["all"] * 12 + list(CLIENTS))
HAPPENS = [
    *["redeem", "hold", "confirm", "return", "repeat"] * 3,
    *["a hold ends"] * 4, *["tidy", "terms", "terms", "look", "revoke"],
]  # fmt: skip
_numbers = count()


class Checkout(RuleBasedStateMachine):
    apis: dict[str, Api]
    campaigns: list[Campaign]
    """Of which `narrow` may touch the first."""

    @initialize()
    def issue_coupons(self) -> None:
        """One of each campaign, both of one user."""
        self.turn, number = 0, next(_numbers)
        self.former: list[Callable[[], None]] = []
        self.lives: list[Life] = []
        self.users = [f"anna-{number}", f"ben-{number}"]
        for campaign in self.campaigns:
            set_terms(campaign)
            place = {"campaign": campaign, "user_id": self.users[0], "sequence": number + 1}
            code = derive_code(b"model", campaign_id=campaign.pk, sequence=number + 1, user_id=self.users[0])
            Coupon.objects.create(**place, code=code)
            self.lives.append(Life(self.users[0], code, campaign.pk, Terms()))

    @rule(what=st.sampled_from(HAPPENS), client=clients, coupon=coupons, as_whom=users, number=numbers)
    def something_happens(self, what: str, client: str, coupon: int, as_whom: int | None, number: int) -> None:
        """One rule, since of several hypothesis leaves out some for a whole sequence."""
        life = self.lives[coupon]
        match what:
            case "redeem" | "hold":
                used = [*life.uses, str(1001 + len(life.uses))]  # the last is a new order
                self.ask_for(client, coupon, used[-1 - number % len(used)], as_whom, hold=what == "hold")
            case "confirm" | "return" if life.uses:
                use = list(life.uses.values())[-1 - number % len(life.uses)]
                self.step(client, life, use, what)
            case "repeat" if self.former:
                self.former[number % len(self.former)]()
            case "revoke" if number == 0:  # seldom, as it is final
                answer = self.apis[client].post("coupons/revoke", {"code": life.code, "reason": "model"})
                assert said(answer) == (self.refused(client, life) or life.revoke())
            case "look":
                self.look(CLIENTS[number % 3], coupon, as_whom)
            case _:
                self.time_passes(what, coupon, number)

    # --- requests ---

    def ask_for(self, client: str, coupon: int, order: str, as_whom: int | None, *, hold: bool) -> None:
        self.former.append(lambda: self.ask_for(client, coupon, order, as_whom, hold=hold))
        life = self.lives[coupon]
        body: dict[str, Any] = {"code": life.code, "order_ref": order}
        if hold:
            body["hold_sec"] = 600
        if as_whom is not None:
            body["user_id"] = self.users[as_whom]
        answer = self.apis[client].post("redemptions", body)
        refused = self.refused(client, life)
        assert said(answer) == (refused or life.redeem(order, body.get("user_id"), hold=hold))
        if answer.status_code < 300:
            use, document = life.uses[order], json_of(answer)
            use.id = use.id or document["id"]
            assert (document["id"], document["order_ref"]) == (use.id, order)
            assert (document["user_id"], document["campaign"]) == (life.user_id, str(life.campaign_id))
            assert json_of(self.apis["all"].get(f"redemptions/{use.id}")) == document

    def step(self, client: str, life: Life, use: Use, what: str) -> None:
        self.former.append(lambda: self.step(client, life, use, what))
        body = {"reason": "model"} if what == "return" else {}
        answer = self.apis[client].post(f"redemptions/{use.id}/{what}", body)
        model = life.give_back if what == "return" else life.confirm
        assert said(answer) == (self.refused(client, life) or model(use))

    def look(self, client: str, coupon: int, as_whom: int | None) -> None:
        """As each client may."""
        self.check(client, coupon, as_whom)
        listed = json_of(self.apis[client].get(f"users/{self.users[0]}/coupons"))["results"]
        assert len(listed) == (1 if client == "narrow" else 2)
        assert all(("code" in each) is not (client == "reader") for each in listed)

    def check(self, client: str, coupon: int, as_whom: int | None) -> None:
        life = self.lives[coupon]
        user_id = None if as_whom is None else self.users[as_whom]
        body = {"code": life.code} if user_id is None else {"code": life.code, "user_id": user_id}
        answer = self.apis[client].post("coupons/check", body)
        if (refused := self.refused(client, life)) is not None:
            assert said(answer) == refused
            return
        document = json_of(answer)
        reasons = life.obstacles(user_id)
        assert (document["status"], document["reasons"]) == (life.status, reasons)
        assert document["redeemable"] is not bool(reasons)

    def time_passes(self, what: str, coupon: int, number: int) -> None:
        life, held = self.lives[coupon], [use for life in self.lives for use in life.uses.values() if use.is_held]
        if what == "a hold ends" and held:
            held[number % len(held)].hold_is_over = True
            Redemption.objects.filter(pk=held[number % len(held)].id).update(hold_until=database_now())
        elif what == "tidy":
            assert tidy_lapsed_holds(actor="test") == sum(life.tidy() for life in self.lives)
        elif what == "terms":
            # Over, days that are over for this coupon, or not begun, for a short time: nothing is redeemed meanwhile.
            change = number if life.terms == Terms() else None
            terms = life.terms
            terms.until_is_over, terms.has_days, terms.is_early = (change == each for each in range(3))
            set_terms(self.campaigns[coupon], terms)
            life.is_old = True
            Coupon.objects.filter(code=life.code).update(issued_at=database_now() - 2 * DAY)

    # --- what agrees then ---

    @invariant()
    def all_agree(self) -> None:
        """The database, the lists and their counts, and for one coupon after the other the check."""
        of_ours = {"coupon__code__in": [life.code for life in self.lives]}
        uses = Redemption.objects.filter(**of_ours).values_list("coupon__code", "order_ref", "state")
        assert set(uses) == {(life.code, order, use.state) for life in self.lives for order, use in life.uses.items()}
        events = CouponEvent.objects.filter(**of_ours).order_by("id").values_list("coupon__code", "kind")
        for life in self.lives:
            assert [kind for code, kind in events if code == life.code] == life.events
        self.turn += 1
        self.check("all", self.turn % 2, None)
        statuses = {life.code: life.status for life in self.lives}
        listed = json_of(self.apis["all"].get(f"users/{self.users[0]}/coupons"))["results"]
        assert {each["code"]: each["status"] for each in listed} == statuses
        if self.turn % 4 == 0:
            for status, number in Counter(statuses.values()).items():
                counted = json_of(self.apis["all"].get(f"users/{self.users[0]}/coupons?status={status}"))["count"]
                assert counted == number

    def teardown(self) -> None:
        tidy_lapsed_holds(actor="test")

    def refused(self, client: str, life: Life) -> Answer | None:
        if client == "reader":
            return 403, "forbidden"
        if client == "narrow" and life.campaign_id != self.campaigns[0].pk:
            return 404, "not-found"
        return None


def said(answer: Any) -> Answer:
    document = json_of(answer)
    return answer.status_code, document.get("code") or document["status"]


def set_terms(campaign: Campaign, terms: Terms | None = None) -> None:
    now, terms = database_now(), terms or Terms()
    Campaign.objects.filter(pk=campaign.pk).update(
        valid_from=now + DAY if terms.is_early else None,
        valid_until=now if terms.until_is_over else None,
        valid_days=1 if terms.has_days else None,
    )


@pytest.mark.timeout(7_200)
def test_the_checkout_does_what_its_model_says(service: Service, long_timeouts: None) -> None:
    values = {"quantity": 1_000_000, "opens_at": database_now(), "state": CampaignState.CLOSED, "epoch": 1}
    Checkout.campaigns = [Campaign.objects.create(name="model", **values) for _ in range(2)]
    _, narrow = create_api_key(
        name="narrow", scopes=Scope.values, campaign_ids=[Checkout.campaigns[0].pk], actor="test"
    )
    _, reader = create_api_key(name="reader", scopes=[Scope.READ], actor="test")
    Checkout.apis = {"all": Api(), "narrow": Api(f"Bearer {narrow}"), "reader": Api(f"Bearer {reader}")}
    for api in Checkout.apis.values():
        wait_until(lambda api=api: api.get("users/x/coupons").status_code == 200, what="the key is known")  # type: ignore[misc]

    run_state_machine_as_test(
        Checkout,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=not IS_FUZZED,  # the suite tries the same every time
            phases=[Phase.generate, Phase.shrink] if IS_FUZZED else [Phase.generate],
        ),
    )

    assert_lives_are_whole()
    seen = Counter(CouponEvent.objects.values_list("kind", flat=True))
    assert seen >= Counter(["held", "redeemed", "returned"]), "the requests were such that something happens"
    assert seen.total() > 40, seen
