from django.urls import path, re_path

from coupons.api import views

urlpatterns = [
    path("campaigns/<str:campaign_id>/apply", views.ApplyView.as_view(), name="apply"),
    path("campaigns", views.CampaignListView.as_view(), name="campaigns"),
    path("campaigns/<str:campaign_id>", views.CampaignView.as_view(), name="campaign"),
    path("campaigns/<str:campaign_id>/tickets/<str:user_id>", views.TicketView.as_view(), name="ticket"),
    re_path(
        r"^campaigns/(?P<campaign_id>[^/]+)/(?P<action>open|pause|resume|close)$",
        views.CampaignActionView.as_view(),
        name="campaign-action",
    ),
]
