from django.contrib.admin.apps import SimpleAdminConfig


class OperatorAdminConfig(SimpleAdminConfig):
    """Django's admin with our site. urls.py finds the pages, so that commands do not import them."""

    default_site = "couponsite.admin_site.OperatorSite"
