"""The error of bin/stack that its user must act on."""


class StackError(Exception):
    """A problem that needs action. The text says what happened and what to do."""
