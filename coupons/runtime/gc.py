"""What the garbage collector need not look at again and again."""

import gc


def freeze_imported_objects() -> None:
    """Take all that was imported out of the garbage collector's sight, at the end of a process's start.

    A full collection looks through Django, and nothing else runs meanwhile: an eighth of a consumer's CPU
    (docs/decisions/0022), and a tenth of a second in which a web process answers nobody (docs/decisions/0029).
    """
    gc.collect()
    gc.freeze()
