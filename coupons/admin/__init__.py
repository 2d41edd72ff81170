"""The operators' pages, one module each; pages.py has what they share. Pages present; lifecycle and retry decide."""

from coupons.admin import api_keys, audit_log, campaigns, coupons, failed_events, jobs, users

__all__ = ["api_keys", "audit_log", "campaigns", "coupons", "failed_events", "jobs", "users"]
