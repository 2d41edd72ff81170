"""Makes the OpenAPI document with drf-spectacular: every answer of every view, with every problem code.

Only the schema's own view imports this module, so that other processes do not load the generator. The declarations of
the views' answers are here, not in the views; tests/api/test_schema.py checks that the two agree.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any
from uuid import UUID

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers

from coupons.api import views
from coupons.api.parsers import MAX_LIMIT, MAX_OFFSET
from coupons.api.problems import CONTENT_TYPE, Code, Problem
from coupons.api.serializers import CampaignSerializer
from coupons.api.throttling import LimitedView
from coupons.messaging.messages import USER_ID
from coupons.models import CampaignState

VERSION = "1"
CAMPAIGN_ID = "0198c2a4-6f3e-7a51-9c0e-5d1f0b1c2d3e"
EVERYWHERE = (
    Code.INVALID, Code.UNAUTHENTICATED, Code.FORBIDDEN, Code.METHOD_NOT_ALLOWED, Code.NOT_ACCEPTABLE,
    Code.TOO_MANY_REQUESTS, Code.INTERNAL, Code.UNAVAILABLE,
)  # fmt: skip
WITH_BODY = (Code.UNSUPPORTED_MEDIA_TYPE, Code.LENGTH_REQUIRED, Code.TOO_LARGE)
DESCRIPTION = """\
First come, first served. `POST .../apply` is idempotent by campaign and user: repeat it after a time-out, a 503 or a
lost answer, and you get the same place. 202 and 200 are promises; a 503 promises nothing and takes nothing away.

Errors are `application/problem+json` (RFC 9457). Switch on `code`; texts may change. Within `/api/v1/` members, codes
and headers may be added; none is removed, renamed or given another meaning.
"""


class BearerExtension(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "coupons.api.authentication.BearerAuthentication"
    name = ["userToken", "apiKey"]

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, list[Any]]]:
        """Requires one of the two; drf-spectacular's default requires both."""
        return [{name: []} for name in self.name]

    def get_security_definition(self, auto_schema: AutoSchema) -> list[dict[str, Any]]:
        return [
            {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": "A user's token. It applies for, and sees, that one user.",
            },
            {
                "type": "http",
                "scheme": "bearer",
                "description": "A service's API key, with the scopes apply, read and manage.",
            },
        ]


class ProblemDocument(serializers.Serializer[Any]):
    type = serializers.CharField(help_text="Leads to the code's section of docs/api.md.")
    title = serializers.CharField()
    status = serializers.IntegerField(min_value=400, max_value=599)
    code = serializers.ChoiceField(choices=[str(code) for code in Code])
    detail = serializers.CharField(required=False)
    errors = serializers.DictField(  # type: ignore[assignment]  # a serializer has a property of that name
        required=False, help_text="invalid: what is wrong with each field."
    )
    opens_at = serializers.DateTimeField(required=False, help_text="not-open: when it opens, to the millisecond.")


class AppliedDocument(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["pending"])
    sequence = serializers.IntegerField(min_value=1, help_text="The place: 1 is the first.")
    status_url = serializers.CharField()


class TicketDocument(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["pending", "issued", "failed"])
    sequence = serializers.IntegerField(min_value=1, allow_null=True)
    code = serializers.CharField(required=False, help_text="issued: the coupon's code.")
    issued_at = serializers.DateTimeField(required=False)


class CampaignDocument(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    state = serializers.ChoiceField(choices=CampaignState.values)
    quantity = serializers.IntegerField()
    remaining = serializers.IntegerField(allow_null=True, help_text="null: not known at this moment.")
    admitted = serializers.IntegerField(allow_null=True)
    issued = serializers.IntegerField()
    opens_at = serializers.DateTimeField()
    closes_at = serializers.DateTimeField(allow_null=True)


class CampaignListDocument(serializers.Serializer[Any]):
    count = serializers.IntegerField()
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)
    results = CampaignDocument(many=True)


class NotPushedDocument(serializers.Serializer[Any]):
    pushed = serializers.BooleanField(help_text="false: saved, and on its way to the processes that admit.")
    detail = serializers.CharField()


class ApplicationDocument(serializers.Serializer[Any]):
    user_id = serializers.RegexField(
        f"^{USER_ID.pattern}$", help_text="Optional with a user's token, which names the user."
    )


def problem_responses(codes: Iterable[Code]) -> dict[Any, OpenApiResponse]:
    """Makes one response for each status, with its codes as examples."""
    by_status: dict[int, list[Code]] = {}
    for code in codes:
        by_status.setdefault(Problem(code).status, []).append(code)
    return {
        (status, CONTENT_TYPE): OpenApiResponse(
            ProblemDocument,
            description=", ".join(f"`{code}`" for code in of_status),
            examples=[
                OpenApiExample(
                    str(code),
                    Problem(code).document(),
                    media_type=CONTENT_TYPE,
                    response_only=True,
                    status_codes=[status],
                )
                for code in of_status
            ],
        )
        for status, of_status in by_status.items()
    }


_APPLIED = {"status": "pending", "sequence": 7, "status_url": f"/api/v1/campaigns/{CAMPAIGN_ID}/tickets/42"}
HEADERS = {"Retry-After": ("409", "429", "503"), "WWW-Authenticate": ("401",), "Allow": ("405",)}


def _answers(good: Mapping[Any, Any], *codes: Code) -> dict[Any, Any]:
    return {**good, **problem_responses([*EVERYWHERE, *codes])}


_ISSUED = {
    "status": "issued", "sequence": 7, "code": "3I5WCIMBPTHYQVRN47MENX547I", "issued_at": "2026-12-01T01:00:01+00:00",
}  # fmt: skip
_ACTION = OpenApiParameter("action", str, OpenApiParameter.PATH, enum=list(views.CampaignActionView.actions))
_CAMPAIGN_ID = OpenApiParameter("campaign_id", UUID, OpenApiParameter.PATH)
_CHANGED = {200: CampaignDocument, 202: NotPushedDocument}
_DECLARED: dict[tuple[type, str], dict[str, Any]] = {
    (views.ApplyView, "post"): {
        "operation_id": "apply",
        "summary": "Apply for a coupon",
        "request": ApplicationDocument,
        "responses": _answers(
            {
                202: OpenApiResponse(AppliedDocument, description="Admitted by this request: a promise."),
                200: OpenApiResponse(AppliedDocument, description="This user is in already: the same promise."),
            },
            *WITH_BODY, Code.NOT_FOUND, Code.SOLD_OUT, Code.NOT_OPEN, Code.PAUSED, Code.CLOSED, Code.UNCONFIRMED,
        ),
        "examples": [
            OpenApiExample("a user", {"user_id": "42"}, request_only=True),
            OpenApiExample("a place", _APPLIED, response_only=True, status_codes=[202, 200]),
        ],
    },
    (views.TicketView, "get"): {
        "operation_id": "ticket",
        "summary": "The state of an application",
        "responses": _answers({200: TicketDocument}, Code.NOT_FOUND),
        "examples": [
            OpenApiExample(
                "issued",
                _ISSUED,
                response_only=True,
            )
        ],
    },
    (views.CampaignListView, "get"): {
        "operation_id": "campaigns",
        "summary": "The campaigns, newest first",
        "parameters": [
            OpenApiParameter("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 50}),
            OpenApiParameter("offset", {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET, "default": 0}),
        ],
        "responses": _answers({200: CampaignListDocument}),
    },
    (views.CampaignListView, "post"): {
        "operation_id": "create_campaign",
        "summary": "A new campaign, a draft",
        "request": CampaignSerializer,
        "responses": _answers({201: CampaignDocument}, *WITH_BODY, Code.CONFLICT),
    },
    (views.CampaignView, "get"): {
        "operation_id": "campaign",
        "summary": "One campaign",
        "responses": _answers({200: CampaignDocument}, Code.NOT_FOUND),
    },
    (views.CampaignView, "patch"): {
        "operation_id": "change_campaign",
        "summary": "Another name, quantity or window",
        "request": CampaignSerializer(partial=True),
        "responses": _answers(_CHANGED, *WITH_BODY, Code.NOT_FOUND, Code.CONFLICT),
    },
    (views.CampaignActionView, "post"): {
        "operation_id": "act_on_campaign",
        "summary": "Open, pause, resume or close a campaign",
        "request": None,
        "parameters": [_ACTION],
        "responses": _answers(_CHANGED, Code.LENGTH_REQUIRED, Code.NOT_FOUND, Code.CONFLICT),
    },
}  # fmt: skip


def _declare() -> None:
    LimitedView.schema = AutoSchema()
    for (view, method), what in _DECLARED.items():
        handler = getattr(view, method)
        handler.kwargs = {"schema": AutoSchema()}  # not by DRF's setting: other processes would import it
        declared = [*what.get("parameters", []), *([] if view is views.CampaignListView else [_CAMPAIGN_ID])]
        setattr(view, method, extend_schema(**{**what, "parameters": declared})(handler))


@cache
def document() -> dict[str, Any]:
    """Makes the document that /api/schema/ serves."""
    _declare()
    made: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    made["info"] = {"title": "Coupons", "version": VERSION, "description": DESCRIPTION}
    for path in made["paths"].values():
        for operation in path.values():
            _add_headers(operation)
    return made


def _add_headers(operation: dict[str, Any]) -> None:
    """Adds the headers of each status; the generator describes bodies only."""
    for status, answer in operation["responses"].items():
        found = [name for name, statuses in HEADERS.items() if status in statuses]
        if operation["operationId"] in ("apply", "create_campaign") and status in ("201", "202", "200"):
            found.append("Location")
        if found:
            answer["headers"] = {name: {"schema": {"type": "string"}} for name in found}
