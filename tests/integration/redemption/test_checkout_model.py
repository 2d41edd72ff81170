"""Whatever clients do, in any order, the checkout and its model say the same after every step.

`make fuzz` tries more: CHECKOUT_EXAMPLES=300 sequences, of up to CHECKOUT_STEPS=25 steps each.
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
    precondition,
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
STEPS = int(os.environ.get("CHECKOUT_STEPS", "25"))
DAY = timedelta(days=1)
CLIENTS = ("all", "narrow", "reader")
"""`narrow` may touch one campaign of two; `reader` may not redeem, nor revoke."""
coupons, turns = st.integers(0, 3), st.integers(0, 100)
users = st.sampled_from([None, None, None, 0, 1])
orders = st.sampled_from(["1001", "1002", "1003"])
clients = st.sampled_from(["all"] * 5 + list(CLIENTS))
_numbers = count()


class Checkout(RuleBasedStateMachine):
    apis: dict[str, Api]
    campaigns: list[Campaign]
    """Of which `narrow` may touch the first."""

    @initialize()
    def issue_coupons(self) -> None:
        """Two users, each with one coupon of each campaign."""
        self.turn = 0
        self.former: list[Callable[[], None]] = []
        self.lives: list[Life] = []
        number = next(_numbers)
        for campaign in self.campaigns:
            set_terms(campaign)
            terms = Terms()
            for user in (f"anna-{number}", f"ben-{number}"):
                sequence = campaign.coupons.count() + 1
                code = derive_code(b"model", campaign_id=campaign.pk, sequence=sequence, user_id=user)
                Coupon.objects.create(campaign=campaign, user_id=user, sequence=sequence, code=code)
                self.lives.append(Life(user, code, campaign.pk, terms))
        self.users = sorted({life.user_id for life in self.lives})

    # --- requests ---

    @rule(client=st.sampled_from(CLIENTS), coupon=coupons, as_whom=users)
    def check_and_look(self, client: str, coupon: int, as_whom: int | None) -> None:
        """As each client may."""
        self.check(client, coupon, as_whom)
        listed = json_of(self.apis[client].get(f"users/{self.lives[coupon].user_id}/coupons"))["results"]
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

    @rule(client=clients, coupon=coupons, order=orders, as_whom=users)
    def redeem(self, client: str, coupon: int, order: str, as_whom: int | None) -> None:
        self.ask_for(client, coupon, order, as_whom, hold=False)

    @rule(client=clients, coupon=coupons, order=orders, as_whom=users)
    def hold(self, client: str, coupon: int, order: str, as_whom: int | None) -> None:
        self.ask_for(client, coupon, order, as_whom, hold=True)

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

    @precondition(lambda self: self.uses())
    @rule(client=clients, turn=turns)
    def confirm(self, client: str, turn: int) -> None:
        life, use = self.uses()[turn % len(self.uses())]
        self.step(client, life, use, "confirm", {}, life.confirm)

    @precondition(lambda self: self.uses())
    @rule(client=clients, turn=turns)
    def give_back(self, client: str, turn: int) -> None:
        life, use = self.uses()[turn % len(self.uses())]
        self.step(client, life, use, "return", {"reason": "model"}, life.give_back)

    @rule(client=clients, coupon=coupons, is_meant=st.sampled_from([False, False, False, True]))
    def revoke(self, client: str, coupon: int, is_meant: bool) -> None:
        """Not too often, since nothing happens afterwards."""
        if is_meant:
            life = self.lives[coupon]
            answer = self.apis[client].post("coupons/revoke", {"code": life.code, "reason": "model"})
            assert said(answer) == (self.refused(client, life) or life.revoke())

    @precondition(lambda self: self.former)
    @rule(turn=turns)
    def repeat(self, turn: int) -> None:
        """A former request comes again, however late."""
        self.former[turn % len(self.former)]()

    # --- time passes ---

    @rule(what=st.sampled_from(["hold ends", "hold ends", "tidy", "days", "terms"]), coupon=coupons, number=turns)
    def time_passes(self, what: str, coupon: int, number: int) -> None:
        life, uses = self.lives[coupon], [use for _, use in self.uses() if use.is_held]
        if what == "hold ends" and uses:
            uses[number % len(uses)].hold_is_over = True
            Redemption.objects.filter(pk=uses[number % len(uses)].id).update(hold_until=database_now())
        elif what == "tidy":
            assert tidy_lapsed_holds(actor="test") == sum(life.tidy() for life in self.lives)
        elif what == "days":
            life.is_old = True
            Coupon.objects.filter(code=life.code).update(issued_at=database_now() - 2 * DAY)
        elif what == "terms":
            terms = life.terms
            terms.until_is_over, terms.has_days, terms.is_early = (number % 4 == each for each in range(3))
            set_terms(self.campaigns[coupon // 2], terms)

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
        self.check("all", self.turn % 4, None)
        user_id = self.users[self.turn % 2]
        statuses = {life.code: life.status for life in self.lives if life.user_id == user_id}
        listed = json_of(self.apis["all"].get(f"users/{user_id}/coupons"))["results"]
        assert {each["code"]: each["status"] for each in listed} == statuses
        status, number = Counter(statuses.values()).most_common()[-1]
        assert json_of(self.apis["all"].get(f"users/{user_id}/coupons?status={status}"))["count"] == number

    def teardown(self) -> None:
        tidy_lapsed_holds(actor="test")

    def uses(self) -> list[tuple[Life, Use]]:
        return [(life, use) for life in self.lives for use in life.uses.values()]

    def step(self, client: str, life: Life, use: Use, what: str, body: object, model: Callable[[Use], Answer]) -> None:
        self.former.append(lambda: self.step(client, life, use, what, body, model))
        answer = self.apis[client].post(f"redemptions/{use.id}/{what}", body)
        assert said(answer) == (self.refused(client, life) or model(use))

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
    assert seen.total() > EXAMPLES
