"""Django settings of reference.py: no middleware, no authentication; the product's database, for two of its views."""

from couponsite.servers import database_config

SECRET_KEY = "signs nothing"  # noqa: S105
ALLOWED_HOSTS = ["127.0.0.1"]
DATABASES = {"default": database_config("DATABASE_URL", time_outs_ms={})}
DATABASES["default"]["CONN_MAX_AGE"] = None
INSTALLED_APPS = ["benchmarks"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
ROOT_URLCONF = "benchmarks.reference"
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "UNAUTHENTICATED_USER": None,
}
