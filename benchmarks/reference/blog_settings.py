"""The bare project again, with blog.py for its addresses."""

from benchmarks.reference.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.reference.blog"
