"""The bare project again, with blog.py for its addresses, and the database that its consumer writes to."""

import environ

from benchmarks.reference.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.reference.blog"
DATABASES = {"default": environ.Env().db("DATABASE_URL")}
