"""Removes this process's secrets from Django's error page (DJANGO_DEBUG) and from the text of its mails.

Django hides settings by name. The name REDIS_URL does not reveal that it contains a password, nor do the names of our
environment variables that granian adds to the request's. So this module searches the report for the secrets themselves.
"""

import re
from collections.abc import Iterator
from html import escape
from urllib.parse import parse_qs, quote, unquote, urlsplit

from django.conf import settings
from django.utils.safestring import SafeString
from django.views.debug import ExceptionReporter

HIDDEN = "********************"
SECRET_OF_KAFKA = re.compile(r"password|secret|key\.pem|sasl\.jaas|token")
MIN_LENGTH = 4  # a shorter secret would match parts of common words


class ErrorReport(ExceptionReporter):
    def get_traceback_html(self) -> SafeString:
        return self._without_secrets(super().get_traceback_html())

    def get_traceback_text(self) -> SafeString:
        return self._without_secrets(super().get_traceback_text())

    def _without_secrets(self, report: str) -> SafeString:
        given = self.request.headers.get("Authorization", "") if self.request is not None else ""
        for secret in sorted([*known_secrets(), *given.split()[1:]], key=len, reverse=True):
            if len(secret) >= MIN_LENGTH:
                for form in (secret, escape(secret), quote(secret, safe=""), repr(secret)[1:-1]):
                    report = report.replace(form, HIDDEN)
        return SafeString(report)  # as safe as before: HIDDEN has no mark-up


def known_secrets() -> Iterator[str]:
    """Yields the secrets among this process's settings."""
    yield from [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    yield from settings.API_KEYS
    yield from (
        secret.decode("utf-8", "replace")
        for keys in (settings.MESSAGE_KEYS, settings.CODE_KEYS)
        for secret in keys.values()
    )
    yield from (
        str(database.get("PASSWORD") or "") for database in [settings.WEB_DATABASE, *settings.DATABASES.values()]
    )
    redis = urlsplit(settings.REDIS_URL)
    yield from [unquote(redis.password or ""), *parse_qs(redis.query).get("sentinel_password", [])]
    yield from (value for name, value in settings.KAFKA_CLIENT_CONFIG.items() if SECRET_OF_KAFKA.search(name))
