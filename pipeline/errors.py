"""Errors a person can act on.

Every error that reaches a user derives from `EvoloomError`: the CLI prints its message, without a
traceback, and exits with its code (DESIGN.md, exit codes). A message names the file, line, field or
setting, says what was wrong and what would be right.
"""


class EvoloomError(Exception):
    """Base of all errors whose message is meant for the user; exit code 1."""

    exit_code = 1


class UsageError(EvoloomError):
    """Raised when a command, a setting or an input file is wrong; nothing was started."""

    exit_code = 2


class InterruptedRunError(EvoloomError):
    """Raised when a run stopped before its end and can be resumed."""

    exit_code = 75
