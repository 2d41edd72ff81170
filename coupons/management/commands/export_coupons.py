import os
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

from coupons.errors import OperatorError
from coupons.management.command import CouponCommand, add_reason, campaign_id, moment, operator
from coupons.models import Campaign
from coupons.redemption.coupon_life import CouponStatus
from coupons.redemption.export import CouponExport, Selection

STDOUT: Final = "-"
PROGRESS_SEC = 0.2


class Command(CouponCommand):
    uses_redis = False
    help = (
        "Write a campaign's coupons to a CSV file: one line each, in the order of admission, as of one moment. The "
        "file has the codes, which are worth money, unless --without-codes is given. A cell that a spreadsheet would "
        "run begins with ': drop one ' at the start of a cell to get its exact value."
    )
    examples = """
  manage.py export_coupons 0198c7f2-5b1c-7d3e-9a41-3f6f0c2b7a10 --output winter.csv
  manage.py export_coupons 0198c7f2-5b1c-7d3e-9a41-3f6f0c2b7a10 --status unused --without-codes --output - | wc -l
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("campaign", type=campaign_id, help="the campaign's id")
        parser.add_argument(
            "--status", choices=[str(each) for each in CouponStatus], help="only coupons of this status"
        )
        parser.add_argument("--since", type=moment, help="only coupons issued then or later; ISO 8601 with offset")
        parser.add_argument(
            "--output",
            required=True,
            metavar="FILE",
            help="the file; - is standard output. A file that exists is replaced when the new one is complete",
        )
        parser.add_argument("--without-codes", action="store_true", help="leave the column `code` empty")
        add_reason(parser)

    def run(self, **options: Any) -> None:
        campaign = Campaign.objects.filter(pk=options["campaign"]).first()
        if campaign is None:
            raise OperatorError(f"There is no campaign {options['campaign']}.")
        status = CouponStatus(options["status"]) if options["status"] else None
        selection = Selection(with_codes=not options["without_codes"], status=status, since=options["since"])
        with _opened(options["output"]) as file:
            export = CouponExport(campaign=campaign, selection=selection, actor=operator(), reason=options["reason"])
            progress = _Progress(of=campaign.issued_count)
            try:
                for chunk in export:
                    file.write(chunk)
                    progress.show(export.rows)
                file.flush()
            except BrokenPipeError:
                raise OperatorError("output: whoever read it has stopped, so the export is not complete.") from None
            except OSError as error:
                raise OperatorError(f"output: it could not be written: {error.strerror}.") from error
            finally:
                progress.end()
                export.close()
        self.stderr.write(f"{export.rows:,} coupons.")


@contextmanager
def _opened(output: str) -> Iterator[IO[bytes]]:
    """Yields a file to write to. Standard output past Python's own stream, which drops what a full disk refuses.

    A named file appears when it is complete, in place of a former one; only its owner may read it.
    Crash before the end => a file NAME.*.part is left, and the former one is as it was.
    """
    if output == STDOUT:
        sys.stdout.flush()
        with os.fdopen(os.dup(1), "wb") as file:
            yield file
        return
    path = Path(output).resolve()
    if path.exists() and not path.is_file():
        raise OperatorError(f"output: {output} is no file. Name a file, or - for standard output.")
    try:
        number, part = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise OperatorError(f"output: no file can be made in {path.parent}: {error.strerror}.") from error
    try:
        with os.fdopen(number, "wb") as file:
            yield file
        Path(part).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(part).unlink()
        raise


class _Progress:
    """A line on standard error that counts, where that is a terminal."""

    def __init__(self, *, of: int) -> None:
        self._of = of
        self._is_shown = sys.stderr.isatty()
        self._shown_at = 0.0

    def show(self, rows: int) -> None:
        if self._is_shown and time.monotonic() - self._shown_at > PROGRESS_SEC:
            self._shown_at = time.monotonic()
            print(f"\r{rows:,} of {self._of:,} coupons", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._is_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
