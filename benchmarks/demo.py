"""`make demo`: users on threads fight over coupons by HTTP, through every real part; the ledger is checked.

Needs a stack that is up and migrated. Exits 0 only if exactly min(users, quantity) different users have one
coupon each, sequences 1 to n, PostgreSQL agrees with what the users were told, and the ledger closes.
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
    from benchmarks import demo_run  # models can be imported only after setup()
    from coupons.errors import DATABASE_DOWN, RetryLater

    try:
        return demo_run.run(users=options.users, quantity=options.quantity, threads=options.threads)
    except (demo_run.DemoFailed, ServiceFailed) as error:
        print(f"demo: {error}", file=sys.stderr)
    except (RetryLater, *DATABASE_DOWN) as error:
        print(f"demo: a part does not answer: {error}. Look at `make status`.", file=sys.stderr)
    except KeyboardInterrupt:
        print("demo: interrupted; the processes that it started have ended.", file=sys.stderr)
        return 130
    return 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--users", type=positive, default=1000, help="different users (default %(default)s)")
    parser.add_argument("--quantity", type=positive, default=100, help="coupons (default %(default)s)")
    parser.add_argument("--threads", type=positive, default=32, help="threads they share (default %(default)s)")
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
