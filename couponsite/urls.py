"""Routes URLs to the REST API, the operators' admin, and the endpoints for load balancers and Prometheus."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from coupons.api import documentation, health

admin.autodiscover()

# These imports replace what Django's apps have registered by now.
from coupons.admin.log_in import log_in  # noqa: E402
from coupons.admin.users import OwnPasswordView  # noqa: E402

admin.site.site_header = "Coupons"
admin.site.site_title = "Coupons"
admin.site.site_url = None  # there is no other site to view
admin.site.index_title = "Campaigns, coupons and failed events"
admin.site.index_template = "admin/coupons/index.html"

urlpatterns = [
    path("api/v1/", include("coupons.api.urls")),
    path("api/schema/", documentation.schema, name="api-schema"),
    path("api/docs/", documentation.docs, name="api-docs"),
    path("api/docs/problems", documentation.problems, name="api-problems"),
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/login/", log_in),
    path("admin/password_change/", admin.site.admin_view(OwnPasswordView.as_view(), cacheable=True)),
    path("admin/", admin.site.urls),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("metrics", health.metrics),
]

handler400 = "coupons.api.problem_responses.bad_request"
handler404 = "coupons.api.problem_responses.not_found"
handler500 = "coupons.api.problem_responses.server_error"
