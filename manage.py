#!/usr/bin/env python3
"""Django's command line for the coupon service; `manage.py help` lists the commands."""

import gc
import os
import sys

from couponsite.terminal import make_printing_harmless, refuse_unreadable_arguments


def main() -> None:
    gc.disable()  # until the apps are loaded (coupons/apps.py)
    make_printing_harmless()
    refuse_unreadable_arguments("manage.py")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "couponsite.settings")
    try:
        from django.core.management import execute_from_command_line
    except ImportError as error:
        raise SystemExit(f"{error}\nRun `make up` once, then use .venv/bin/python manage.py ...") from error
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
