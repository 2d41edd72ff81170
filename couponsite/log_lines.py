"""Formats each log record as one line: texts from outside can neither start another line nor control a terminal."""

import logging

from coupons.runtime.text import escape_for_log


class LineFormatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's own name
        return escape_for_log(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802
        """Indents each line of a traceback, so that none looks like a record."""
        lines = super().formatException(ei).split("\n")  # type: ignore[arg-type]
        return "\n".join(f"  {escape_for_log(line)}" for line in lines)
