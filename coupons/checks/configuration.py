"""System checks. Checks of settings run with every command, checks that ask the servers with `check --deploy`."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004  Django's own name
from redis.exceptions import RedisError

from coupons.admission.scripts import admission_redis, cluster_problem
from coupons.errors import DATABASE_DOWN, GateUnavailable, RetryLater
from coupons.messaging import topics
from coupons.redemption.codes import unknown_code_keys
from coupons.runtime.failpoints import reason_against

REDIS_SETTINGS = {
    "maxmemory-policy": ("noeviction", "an evicted ticket closes its campaign until it is rebuilt"),
    "appendonly": ("yes", "a restart would lose what was admitted since the last snapshot"),
    "appendfsync": ("always", "a crash of the host would lose the last second of promises"),
}


@register("coupons")
def check_time_outs(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """Checks that settings which depend on each other fit together."""
    found: list[CheckMessage] = []
    if settings.REDIS_SOCKET_TIMEOUT_MS >= settings.ACCEPT_TIMEOUT_MS:
        text = "COUPON_REDIS_SOCKET_TIMEOUT_MS is not below COUPON_ACCEPT_TIMEOUT_MS."
        hint = "A Redis that hangs would use up the whole time, and leave none for Kafka."
        found.append(Error(text, hint=hint, id="coupons.E001"))
    if settings.TOPIC_MIN_INSYNC_REPLICAS > settings.TOPIC_REPLICATION:
        text = "COUPON_TOPIC_MIN_INSYNC_REPLICAS is above COUPON_TOPIC_REPLICATION."
        found.append(Error(text, hint="No message could ever be acknowledged.", id="coupons.E003"))
    return found


@register("coupons")
def check_unread_settings(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """The web server logs these warnings at its start."""
    hint = "Correct its name, or unset it: docs/settings.md has the settings that there are, and what each needs."
    return [
        Warning(f"{name} is set, and nothing reads it.", hint=hint, id="coupons.W013")
        for name in settings.UNREAD_SETTINGS
    ]


@register("coupons")
def check_failpoints(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """Refuses failpoints outside of tests. Every command, each consumer process and the web server run this."""
    if settings.FAILPOINTS is None:
        return []
    reason = reason_against(settings.DATABASES["default"]["NAME"])
    hint = "Unset COUPON_FAILPOINTS: it kills processes on purpose."
    return [] if reason is None else [Error(f"{reason}.", hint=hint, id="coupons.E006")]


@register("coupons")
def check_token_keys(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """Checks that every file of COUPON_JWT_KEYS_DIR is a key, or a set of keys. The web server does so at its start."""
    if settings.JWT_KEYS_DIR is None:
        return []
    from coupons.auth.jwt_keys import read_keys  # only web processes need it, and only with the folder

    keys, errors = read_keys(settings.JWT_KEYS_DIR)
    hint = f"Correct or remove it in {settings.JWT_KEYS_DIR}."
    found: list[CheckMessage] = [Error(str(error), hint=hint, id="coupons.E008") for error in errors]
    if not keys and not errors:
        hint = "Put the issuer's JWK Set there as jwks.json, or a public key, for example as 2026-11.RS256.pem."
        found.append(Error(f"COUPON_JWT_KEYS_DIR, {settings.JWT_KEYS_DIR}, has no key.", hint=hint, id="coupons.E009"))
    return found


@register("coupons", deploy=True)
def check_credentials(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    if settings.API_KEYS or settings.JWT_KEYS_DIR is not None:
        return []
    hint = "Set a key, or the folder with the keys of users' tokens."
    text = "COUPON_API_KEYS and COUPON_JWT_KEYS_DIR are empty: only keys of `create_api_key` get in."
    return [Warning(text, hint=hint, id="coupons.W001")]


@register("coupons", deploy=True)
def check_topic(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """Checks that the topic exists, and has the size and the settings that the promise depends on."""
    try:
        if topics.partition_count() is None:
            hint = "manage.py create_topic makes it."
            return [Error(f"Kafka has no topic {settings.TOPIC}.", hint=hint, id="coupons.E004")]
        differing, too_small = topics.settings_that_differ(), topics.what_is_too_small()
    except RetryLater as error:
        return [Error(f"Kafka did not answer: {error}", id="coupons.E005")]
    text, hint = "Topic {}: {} is {}, should be {}.", "manage.py create_topic changes it, or says what does."
    differences: list[CheckMessage] = [
        Warning(text.format(settings.TOPIC, name, *values), hint=hint, id="coupons.W002")
        for name, values in differing.items()
    ]
    return differences + [
        Error(text.format(settings.TOPIC, name, *values), hint=hint, id="coupons.E021")
        for name, values in too_small.items()
    ]


@register("coupons", deploy=True)
def check_message_keys(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """Checks that no unread message is signed with an unknown key."""
    from coupons.recovery.unknown_keys import report_unknown_keys  # web processes do without recovery

    return report_unknown_keys()


@register("coupons", deploy=True)
def check_code_keys(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """Checks that the key of each campaign's codes is known. Other checks report outages."""
    try:
        text = unknown_code_keys()
    except DATABASE_DOWN:
        return []
    hint = "Until then no consumer writes the coupons of these campaigns."
    return [Error(text, hint=hint, id="coupons.E024")] if text else []


@register("coupons", deploy=True)
def check_redis(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """Checks that the Redis of the gate is one server for all campaigns, and keeps its data."""
    try:
        if problem := cluster_problem():
            return [Error(problem, hint="Every process refuses to start with it.", id="coupons.E022")]
        found: Any = admission_redis().config_get(*REDIS_SETTINGS)
    except (RedisError, GateUnavailable) as error:
        # A managed Redis may forbid CONFIG; its own settings page shows the values.
        return [Warning(f"Redis did not show its settings: {error}", id="coupons.W003")]
    return [
        Warning(f"Redis: {name} is {found.get(name)}, should be {wanted}.", hint=f"Else {why}.", id="coupons.W004")
        for name, (wanted, why) in REDIS_SETTINGS.items()
        if found.get(name) != wanted
    ]
