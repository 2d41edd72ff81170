"""`make demo`: users on threads compete for coupons over HTTP, through every real part, and the ledger is checked.

It needs a running and migrated stack. It exits 0 only if exactly min(users, quantity) different users have one coupon
each with sequences 1 to n, PostgreSQL agrees with the users' answers, and the ledger closes.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

import django

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that `python benchmarks/demo.py` works too

from harness import ServiceFailed


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "couponsite.settings")
    django.setup()
    from benchmarks import demo_run  # models can only be imported after django.setup()
    from coupons.errors import DATABASE_DOWN, RetryLater

    try:
        return demo_run.run(users=options.users, quantity=options.quantity, threads=options.threads)
    except (demo_run.DemoFailed, ServiceFailed) as error:
        print(f"demo: {error}", file=sys.stderr)
    except (RetryLater, *DATABASE_DOWN) as error:
        print(f"demo: a server does not answer: {error}. Check `make status`.", file=sys.stderr)
    except KeyboardInterrupt:
        print("demo: interrupted; its processes have been stopped.", file=sys.stderr)
        return 130
    return 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--users", type=positive, default=1000, help="number of users (default %(default)s)")
    parser.add_argument("--quantity", type=positive, default=100, help="number of coupons (default %(default)s)")
    parser.add_argument(
        "--threads", type=positive, default=32, help="threads that the users share (default %(default)s)"
    )
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
