"""What can go wrong, and what the caller must do about it."""


class StackError(Exception):
    """Something a person must act on; the text says what happened and what to do."""
