"""The bare project again, with django_view.py for its addresses."""

from benchmarks.reference.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.reference.django_view"
