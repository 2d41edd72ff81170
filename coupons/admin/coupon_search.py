"""Finds coupons by code, user or order, from one field that is sent as a POST.

A code leads to its coupon's page, so it never stands in an address. A user or an order leads to the list of their
coupons. What is neither is not repeated anywhere, as it may be a code with a typing error.
"""

from django.contrib import messages
from django.contrib.admin.views.main import PAGE_VAR, SEARCH_VAR
from django.db.models import Q
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse

from coupons.admin.pages import as_stored
from coupons.models import Coupon, Redemption
from coupons.redemption.codes import InvalidCode, read_code

FIELD = "search"
MAX_OF_ORDER = 1_000
NO_NAME = "Nothing was found: no user has exactly this id, and no order exactly this reference"
NO_RIGHT = f"{NO_NAME}. You may not search by code."
NO_CODE = f"{NO_NAME}, and no coupon has this code."


def may_see_codes(request: HttpRequest) -> bool:
    return request.user.has_perm("coupons.see_code")


def help_text(request: HttpRequest) -> str:
    if may_see_codes(request):
        return "A complete user id, the complete reference of an order, or a code as people type it"
    return "A complete user id, or the complete reference of an order"


def matches(term: str) -> Q:
    """Compares exactly, so that two indexes serve the search."""
    of_order = Redemption.objects.filter(order_ref=term).values_list("coupon_id", flat=True)
    return Q(user_id=term) | Q(pk__in=list(of_order[:MAX_OF_ORDER]))


def search(request: HttpRequest) -> HttpResponseRedirect:
    """Redirects to the coupon with this code, or to the list, with a message if nothing was found."""
    term = as_stored(request.POST[FIELD].replace("\0", ""))
    refusal = NO_RIGHT
    if may_see_codes(request):
        found, refusal = _find_by_code(term)
        if found is not None:
            return HttpResponseRedirect(reverse("admin:coupons_coupon_change", args=[found]))
    query = request.GET.copy()
    for name in (SEARCH_VAR, PAGE_VAR):
        query.pop(name, None)
    if term and Coupon.objects.filter(matches(term)).exists():
        query[SEARCH_VAR] = term
    elif term:
        messages.error(request, refusal)
    return HttpResponseRedirect(f"{request.path}?{query.urlencode()}" if query else request.path)


def _find_by_code(typed: str) -> tuple[int | None, str]:
    """Returns the coupon's id, or None and what to tell the operator."""
    try:
        code = read_code(typed)
    except InvalidCode as error:
        return None, f"{NO_NAME}. As a code: {error}"
    return Coupon.objects.filter(code=code).values_list("pk", flat=True).first(), NO_CODE
