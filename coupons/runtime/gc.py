"""Keeps imported objects out of garbage collection."""

import gc


def freeze_imported_objects() -> None:
    """Exempts all imported objects from garbage collection. Call it at the end of a process's start.

    A full collection would scan all of Django while no other code runs: an eighth of a consumer's CPU
    (docs/decisions/0022), and a tenth of a second without answers in a web process (docs/decisions/0029).
    """
    gc.collect()
    gc.freeze()
