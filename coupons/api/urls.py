from django.urls import path, re_path

from coupons.api import export, redemptions, views

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
    path("campaigns/<str:campaign_id>/coupons.csv", export.CouponsFileView.as_view(), name="coupons-file"),
    path("coupons/check", redemptions.CheckView.as_view(), name="check"),
    path("coupons/revoke", redemptions.RevokeView.as_view(), name="revoke"),
    path("redemptions", redemptions.RedemptionListView.as_view(), name="redemptions"),
    path("redemptions/<str:redemption_id>", redemptions.RedemptionView.as_view(), name="redemption"),
    path("redemptions/<str:redemption_id>/confirm", redemptions.ConfirmView.as_view(), name="confirm"),
    path("redemptions/<str:redemption_id>/return", redemptions.ReturnView.as_view(), name="return"),
    path("users/<str:user_id>/coupons", redemptions.UserCouponsView.as_view(), name="user-coupons"),
]
