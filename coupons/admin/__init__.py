"""The operators' pages, a module each; pages.py is what they share. They present; lifecycle and retry decide."""

from coupons.admin import api_keys, audit_log, campaigns, coupons, failed_events, jobs, users

__all__ = ["api_keys", "audit_log", "campaigns", "coupons", "failed_events", "jobs", "users"]
