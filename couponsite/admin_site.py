"""Django's admin site for people who double-click, and who are logged out when they press a button."""

from functools import update_wrapper
from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse


class OperatorSite(AdminSite):
    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        # Imported here, since the pages of coupons.admin register themselves with this site while they are imported.
        from coupons.admin.logged_out import refuse
        from coupons.admin.one_time import once

        checked = super().admin_view(once(view), cacheable)

        def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if request.method == "POST" and not self.has_permission(request):
                return refuse(request)
            return checked(request, *args, **kwargs)

        return update_wrapper(inner, checked)

    def logout(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Leads a GET, such as a reload of the log-out's address, to the start page. Django answers an empty 405."""
        if request.method == "GET":
            return HttpResponseRedirect(reverse("admin:index"))
        return super().logout(request, extra_context)
