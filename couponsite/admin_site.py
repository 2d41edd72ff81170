"""Django's admin site for people who double-click."""

from typing import Any

from django.contrib.admin import AdminSite


class OperatorSite(AdminSite):
    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        # Imported here, since the pages of coupons.admin register themselves with this site while they are imported.
        from coupons.admin.one_time import once

        return super().admin_view(once(view), cacheable)
