"""All settings. The environment is read here and nowhere else; a bad value stops the start and names itself.

Values come from the environment, then from one file of KEY=value lines (a variable that is set already wins):
`COUPON_ENV_FILE` if given, else `.env`, else the `.stack/env` that `make up` writes. So a command started by cron,
which hands over no environment, sees what the web processes see. docs/settings.md explains each of them.
"""

import re
import shlex
import sys
from pathlib import Path

from couponsite import env
from couponsite.servers import database_config, redis_cache, redis_url, through_pooler

BASE_DIR = Path(__file__).resolve().parent.parent

env.read_file(BASE_DIR / ".env", BASE_DIR / ".stack" / "env")

# --- Django -----------------------------------------------------------------------------------------------------
DEBUG = env.boolean("DJANGO_DEBUG", default=False)
SECRET_KEY = env.required("DJANGO_SECRET_KEY", hint="50 random characters; `make up` makes one for a stack of your own")
SECRET_KEY_FALLBACKS = env.string_list("DJANGO_SECRET_KEY_FALLBACKS")  # former ones: what they signed stays good
ALLOWED_HOSTS = env.string_list("DJANGO_ALLOWED_HOSTS", default="127.0.0.1,localhost,[::1]")
WEB_HOST = env.required("WEB_HOST", default="127.0.0.1")
WEB_PORT = env.integer("WEB_PORT", default=8000, least=1, most=65535)
WEB_WORKERS = env.integer("COUPON_WEB_WORKERS", default=2, least=1, most=256)
ROOT_URLCONF = "couponsite.urls"
WSGI_APPLICATION = "couponsite.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_I18N = False
FORMAT_MODULE_PATH = "couponsite.formats"
# The path below which a proxy shows the service, e.g. /coupons: in every address that the service gives out. Requests
# may have it or not (coupons/runtime/path_prefix.py), so a proxy may pass it on or take it off.
PATH_PREFIX = env.path_prefix("COUPON_PATH_PREFIX", taken=("api", "admin", "static", "healthz", "readyz", "metrics"))
FORCE_SCRIPT_NAME = PATH_PREFIX or None
STATIC_URL = f"{PATH_PREFIX}/static/"
WHITENOISE_USE_FINDERS = True  # serves the files from the apps' folders: an image needs no collectstatic step
WHITENOISE_AUTOREFRESH = False
WHITENOISE_MAX_AGE = 3600
APPEND_SLASH = False
DEFAULT_EXCEPTION_REPORTER = "couponsite.error_reports.ErrorReport"
DATA_UPLOAD_MAX_MEMORY_SIZE = 64 * 1024  # the largest good body of this API is under 1 KiB

INSTALLED_APPS = [
    "couponsite.apps.OperatorAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular_sidecar",  # static files alone
    "django_crontab",
    "coupons",
    "consumers",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "couponsite.middleware.SessionMiddleware",
    "couponsite.middleware.CommonMiddleware",
    "couponsite.middleware.CsrfViewMiddleware",
    "couponsite.middleware.AuthenticationMiddleware",
    "couponsite.middleware.MessageMiddleware",
    "couponsite.middleware.XFrameOptionsMiddleware",
    "couponsite.middleware.ContentSecurityPolicyMiddleware",
    "couponsite.middleware.VisibleTextMiddleware",
]
# Django compares names: both are there, as subclasses that stay off the API's path (couponsite/middleware.py).
SILENCED_SYSTEM_CHECKS = ["security.W002", "security.W003"]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["coupons.api.authentication.BearerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["coupons.api.authentication.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["coupons.api.parsers.StrictJSONParser"],
    "URL_FORMAT_OVERRIDE": None,
    "UNICODE_JSON": False,  # ASCII alone, the rest as \u202e: what a name holds cannot command a client's terminal
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",  # DRF imports it for the schema alone
    "EXCEPTION_HANDLER": "coupons.api.problem_responses.handle_exception",
    "UNAUTHENTICATED_USER": None,
}

# The origins whose pages may call the API: https://shop.example,https://m.shop.example
CORS_ALLOWED_ORIGINS = env.string_list("COUPON_CORS_ORIGINS")
CORS_URLS_REGEX = r"^/api/"
CORS_EXPOSE_HEADERS = ["Location", "Retry-After", "RateLimit", "RateLimit-Policy"]
if CORS_ALLOWED_ORIGINS:
    INSTALLED_APPS.append("corsheaders")
    MIDDLEWARE.insert(0, "corsheaders.middleware.CorsMiddleware")

SPECTACULAR_SETTINGS = {
    "TITLE": "Coupons",
    "VERSION": "1",
    "DESCRIPTION": """\
First come, first served. `POST .../apply` is idempotent by campaign and user: repeat it after a time-out, a 503 or a
lost answer, and you get the same place. 202 and 200 are promises; a 503 promises nothing and takes nothing away.

Errors are `application/problem+json` (RFC 9457). Switch on `code`; texts may change. Within `/api/v1/` members, codes
and headers may be added; none is removed, renamed or given another meaning.
""",
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "SERVERS": [{"url": PATH_PREFIX}] if PATH_PREFIX else [],
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
}

# --- PostgreSQL -------------------------------------------------------------------------------------------------
# Every wait has an end: a database that hangs must neither hold a web thread nor cost a consumer its membership
# (max.poll.interval.ms is 5 minutes). All of these time-outs follow from that of one statement.
DB_STATEMENT_TIMEOUT_MS = env.integer("COUPON_DB_STATEMENT_TIMEOUT_MS", default=10_000, least=100, most=120_000)
# A little later this side ends the wait, should the server itself hang (coupons/runtime/db_timeouts.py).
DB_ANSWER_TIMEOUT_MS = DB_STATEMENT_TIMEOUT_MS * 6 // 5
# A process that stands still (SIGSTOP, a host that hangs) loses what it holds in PostgreSQL: a consumer between its
# insert and its commit the campaign's row, a keeper the right to rebuild.
WORK_LOCK_IDLE_MS = DB_STATEMENT_TIMEOUT_MS * 2
_of_a_session = {
    "statement_timeout": DB_STATEMENT_TIMEOUT_MS,
    "lock_timeout": DB_STATEMENT_TIMEOUT_MS // 2,
    "idle_in_transaction_session_timeout": DB_STATEMENT_TIMEOUT_MS * 2,
}
# Below the minute after which balancers drop a silent connection, which would cost the next query its time-out.
_of_django = {"CONN_MAX_AGE": 20, "CONN_HEALTH_CHECKS": True}
# Web processes use DATABASE_URL. It may lead through a pooler in transaction mode where the others, which need sessions
# of their own, have a URL that does not; bin/web puts WEB_DATABASE in the place of the default one.
WEB_DATABASE = database_config("DATABASE_URL", time_outs_ms=_of_a_session) | _of_django
DATABASES = {"default": WEB_DATABASE}
BEHIND_POOLER = env.is_set("COUPON_DATABASE_DIRECT_URL")
if BEHIND_POOLER:
    DATABASES["default"] = database_config(name="COUPON_DATABASE_DIRECT_URL", time_outs_ms=_of_a_session) | _of_django
    WEB_DATABASE = through_pooler(WEB_DATABASE)
DB_CONNECT_TIMEOUT_SEC = DATABASES["default"]["OPTIONS"]["connect_timeout"]

# --- Redis: for admission, and for what a restored database must not forget (coupons/auth/revocations.py) -------------
REDIS_URL = redis_url("REDIS_URL")
REDIS_SOCKET_TIMEOUT_MS = env.integer("COUPON_REDIS_SOCKET_TIMEOUT_MS", default=500, least=50, most=30_000)
REDIS_MAX_CONNECTIONS = env.integer("COUPON_REDIS_MAX_CONNECTIONS", default=64, least=1, most=10_000)  # a process
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "admission": redis_cache(REDIS_URL, timeout_ms=REDIS_SOCKET_TIMEOUT_MS, max_connections=REDIS_MAX_CONNECTIONS),
}
REDIS_REPLICA_LAG_MS = env.integer("COUPON_REDIS_REPLICA_LAG_MS", default=0, least=0, most=60_000)

# --- Kafka ------------------------------------------------------------------------------------------------------
KAFKA_BOOTSTRAP_SERVERS = env.required("KAFKA_BOOTSTRAP_SERVERS", hint="host:port, several separated by commas")
# Any other setting of librdkafka, for TLS and SASL above all: `security.protocol=SASL_SSL;sasl.mechanism=...`
KAFKA_CLIENT_CONFIG = env.key_value_pairs("COUPON_KAFKA_CLIENT_CONFIG")
# The first key signs, all of them verify (coupons/messaging/signing.py). Those that are derived from Django's secrets
# come last, so they sign only where no key is named.
MESSAGE_KEYS = env.keys_with_fingerprints(
    env.secrets_by_id("COUPON_MESSAGE_KEYS"),
    derived=[env.derived_secret(each, "coupons: messages in Kafka") for each in [SECRET_KEY, *SECRET_KEY_FALLBACKS]],
)
# The codes of coupons (coupons/redemption/codes.py): campaigns get the first key when they open, and keep it.
CODE_KEYS = env.keys_with_fingerprints(
    env.secrets_by_id("COUPON_CODE_KEYS"),
    derived=[env.derived_secret(each, "coupons: codes of coupons") for each in [SECRET_KEY, *SECRET_KEY_FALLBACKS]],
)
TOPIC = env.required("COUPON_TOPIC", default="coupon_create")
TOPIC_PARTITIONS = env.integer("COUPON_TOPIC_PARTITIONS", default=8, least=1, most=1023)
TOPIC_REPLICATION = env.integer("COUPON_TOPIC_REPLICATION", default=1, least=1, most=32)
TOPIC_MIN_INSYNC_REPLICAS = env.integer("COUPON_TOPIC_MIN_INSYNC_REPLICAS", default=1, least=1, most=32)
TOPIC_RETENTION_MS = env.integer("COUPON_TOPIC_RETENTION_MS", default=30 * 24 * 3600 * 1000, least=3_600_000)
CONSUMER_GROUP = env.required("COUPON_CONSUMER_GROUP", default="group_1")
CONSUMER_GROUP_PROTOCOL = env.choice("COUPON_CONSUMER_GROUP_PROTOCOL", default="consumer", of=("consumer", "classic"))
# The producer gives a message up that Kafka has not acknowledged by then; its ticket stays pending for the relay.
DELIVERY_TIMEOUT_MS = env.integer("COUPON_DELIVERY_TIMEOUT_MS", default=5_000, least=1_000, most=120_000)
# Requests about topics, offsets and groups may take as long; who reads the topic gives up after three times that.
KAFKA_REQUEST_TIMEOUT_MS = DELIVERY_TIMEOUT_MS
TOPIC_SILENCE_MS = DELIVERY_TIMEOUT_MS * 3

# Servers in a private network, of which `check --deploy` asks no TLS (coupons/checks/transport.py).
PLAINTEXT_HOSTS = env.string_list("COUPON_PLAINTEXT_HOSTS")

# --- The promise ------------------------------------------------------------------------------------------------
# From the start of the Redis call to the confirmation after Kafka's acknowledgement, by the process's monotonic clock;
# later is a 503.
ACCEPT_TIMEOUT_MS = env.integer("COUPON_ACCEPT_TIMEOUT_MS", default=1_000, least=50, most=30_000)
# A ticket that is older and still not published is stuck: no web process is at work on it any more.
RELAY_AFTER_MS = ACCEPT_TIMEOUT_MS + DELIVERY_TIMEOUT_MS + 1_000
# The API's reads (ticket, campaigns) wait as long as an application does, requests for a thread half as long, /readyz
# one and a half times: a load balancer must not take out a service that still answers its users.
API_DATABASE_TIMEOUT_MS = ACCEPT_TIMEOUT_MS
WEB_QUEUE_TIMEOUT_MS = ACCEPT_TIMEOUT_MS // 2
HEALTH_TIMEOUT_MS = ACCEPT_TIMEOUT_MS * 3 // 2
# How often each process reads the epochs that rebuilds have raised: a rebuild waits one second for that.
CAMPAIGN_CACHE_REFRESH_MS = 400
# For queries of background threads: the campaign cache, and the last use of API keys.
BACKGROUND_ANSWER_TIMEOUT_MS = 5_000

# Threads that run Django in each web process, and requests that may wait for one; the others get 503 at once.
WEB_THREADS = env.integer("COUPON_WEB_THREADS", default=8, least=1, most=1_000)
WEB_QUEUE = WEB_THREADS * 4

# --- Consumer, retry, keeper: the rest are options of their commands -------------------------------------------------
CONSUMER_BATCH_SIZE = 2_000  # messages in one transaction, the default of --batch-size (docs/decisions/0022)
# The consumer ends after so many more unwritable messages than written ones: a person must look at such a flood.
CONSUMER_POISON_LIMIT = env.integer("COUPON_CONSUMER_POISON_LIMIT", default=1_000, least=1, most=10_000_000)
RETRY_MAX_ATTEMPTS = env.integer("COUPON_RETRY_MAX_ATTEMPTS", default=10, least=1, most=1_000)
RETRY_BASE_DELAY_SEC = env.integer("COUPON_RETRY_BASE_DELAY_SEC", default=60, least=0, most=86_400)
RETRY_LEASE_SEC = 600  # a run that stands still for longer loses the row in hand to the next
KEEPER_INTERVAL_MS = 2_000

# --- Callers ----------------------------------------------------------------------------------------------------
API_KEYS = env.string_list("COUPON_API_KEYS")  # services, with all scopes
# The keys of users' tokens (coupons/auth/jwt_keys.py), and each token's claims. Without the folder none is accepted.
JWT_KEYS_DIR = env.folder("COUPON_JWT_KEYS_DIR")
JWT_ISSUER = env.claim("COUPON_JWT_ISSUER", hint="the tokens' iss") if JWT_KEYS_DIR else ""
JWT_AUDIENCE = env.claim("COUPON_JWT_AUDIENCE", hint="the tokens' aud for this service") if JWT_KEYS_DIR else ""
JWT_USER_CLAIM = env.required("COUPON_JWT_USER_CLAIM", default="sub")
JWT_LEEWAY_SEC = 5  # how wrong the clocks of issuer and service may be

# Requests a minute in each process (coupons/api/throttling.py): of users with a token, of their addresses, and of
# services, where 0 means no limit. A proxy in front must be among the trusted ones, or it stands for all of its users.
LIMITS = env.boolean("COUPON_LIMITS", default=True)
LIMIT_USER_PER_MINUTE = env.integer("COUPON_LIMIT_USER_PER_MINUTE", default=120, least=1, most=1_000_000)
LIMIT_USER_CAMPAIGN_PER_MINUTE = env.integer(
    "COUPON_LIMIT_USER_CAMPAIGN_PER_MINUTE", default=60, least=1, most=1_000_000
)
LIMIT_ADDRESS_PER_MINUTE = env.integer("COUPON_LIMIT_ADDRESS_PER_MINUTE", default=3_000, least=1, most=10_000_000)
LIMIT_ADDRESS_CAMPAIGN_PER_MINUTE = env.integer(
    "COUPON_LIMIT_ADDRESS_CAMPAIGN_PER_MINUTE", default=1_500, least=1, most=10_000_000
)
LIMIT_SERVICE_PER_MINUTE = env.integer("COUPON_LIMIT_SERVICE_PER_MINUTE", default=0, least=0, most=100_000_000)
LIMIT_MEMORY = 100_000  # users and addresses that a process counts; the least recently seen are forgotten first
TRUSTED_PROXIES = env.networks("COUPON_TRUSTED_PROXIES")

# --- The front: applications are answered in the event loop (coupons/front/), without it by Django's view ------------
FRONT = env.boolean("COUPON_FRONT", default=True)
# The front refuses a closed campaign without asking Redis. A raised quantity or a resumed campaign admits users once
# this lease has ended in every process of the service, so both figures must be the same in all of them.
REFUSAL_REFRESH_MS = 50
REFUSAL_LEASE_MS = 150
REFUSAL_USERS = 20_000_000  # of all closed campaigns together, 2 bytes each; those beyond are asked of Redis

# --- Browsers: the admin, the API's own pages (docs/decisions/0018) --------------------------------------------------
# TLS ends in a proxy, bin/web speaks none. By default off where only local names are served, else on.
HTTPS = env.boolean("COUPON_HTTPS", default=not {*ALLOWED_HOSTS} <= {"127.0.0.1", "localhost", "[::1]"})
SECURE_SSL_REDIRECT = HTTPS
# Not for clients of the API: a redirected POST becomes a GET, and its credentials were on the wire already. Nor for
# requests from inside: a load balancer, Prometheus, a container's health check.
SECURE_REDIRECT_EXEMPT = [
    f"^{re.escape(f'{PATH_PREFIX}/'[1:])}{own}" for own in (r"api/v1/", r"(healthz|readyz|metrics)$")
]
SECURE_HSTS_SECONDS = env.integer("COUPON_HSTS_SEC", default=365 * 24 * 3600, least=0) if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
# A browser takes cookies that begin with __Host- from this very host alone, over TLS alone, and for all of its paths:
# the path's name keeps apart what shares the host.
COOKIE_PREFIX = ("__Host-" if HTTPS else "") + f"{PATH_PREFIX.replace('/', '-')}-"[1:]
SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = f"{COOKIE_PREFIX}sessionid", f"{COOKIE_PREFIX}csrftoken"
CSRF_COOKIE_HTTPONLY = True  # forms carry the token, no script needs it
CSRF_FAILURE_VIEW = "coupons.admin.logged_out.csrf_failure"
if TRUSTED_PROXIES:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    MIDDLEWARE.insert(0, "couponsite.middleware.TrustedProxyMiddleware")
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

# --- Scheduled jobs (django-crontab; `make jobs` runs the same list where there is no cron daemon) -------------------
CRONJOBS = [
    ("*/5 * * * *", "django.core.management.call_command", [job]) for job in ("retry_failed_coupons", "tidy_holds")
]
CRONTAB_LOCK_JOBS = False  # its lock is a file per host; the rows' own locks make two runs harmless
CRONTAB_COMMENT = f"coupons in {BASE_DIR}"  # two checkouts must not remove each other's lines
# Quoted for the shell that cron starts: a folder may have a space in its name.
CRONTAB_PYTHON_EXECUTABLE = shlex.quote(sys.executable)
CRONTAB_DJANGO_MANAGE_PATH = shlex.quote(str(BASE_DIR / "manage.py"))

# --- Metrics, logs, and failpoints, which are for tests alone (coupons/runtime/failpoints.py) ------------------------
METRICS_DIR = env.path("COUPON_METRICS_DIR")  # shared by the processes of bin/web
FAILPOINTS = env.folder("COUPON_FAILPOINTS")
LOG_LEVEL = env.choice("COUPON_LOG_LEVEL", default="INFO", of=("DEBUG", "INFO", "WARNING", "ERROR"))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "class": "coupons.runtime.text.LineFormatter",
            "format": "%(asctime)s %(levelname)s %(name)s %(message)s",
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        **{name: {"level": LOG_LEVEL} for name in ("coupons", "consumers")},
        # A refusal is an answer, not an incident: 409s by the thousand are not to be logged. Errors (5xx) are.
        "django.request": {"level": "ERROR"},
    },
}

UNREAD_SETTINGS = env.unread()  # last: what is left of the environment; a system check warns of it
