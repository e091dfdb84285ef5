"""What rankd's exit status says; docs/cli.md has the same table, and a test compares them."""

from __future__ import annotations

import enum

from rankd.errors import RankdError, UnavailableError


class ExitCode(enum.IntEnum):
    """The exit status of every command."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> ExitCode:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    OK = 0, "the work is done"
    FAILED = 1, "the work failed, or problems were found"
    USAGE = 2, "the command line is wrong, or a file that it names is not there"
    UNREACHABLE = 3, "the server could not be reached, or did not answer in time"
    ADDRESS = 4, "the server could not listen on its address"
    INTERNAL = 70, "a fault of rankd itself; --debug shows where"
    INTERRUPTED = 130, "interrupted from the keyboard"


_UNREACHABLE_STATUSES = ("UNAVAILABLE", "DEADLINE_EXCEEDED")


def exit_code_of(error: RankdError) -> ExitCode:
    """The exit status for an expected error that no command has handled."""
    # The client's errors carry a grpc status as `code`; naming their classes here would import grpc.
    status = getattr(getattr(error, "code", None), "name", "")
    if isinstance(error, UnavailableError) or status in _UNREACHABLE_STATUSES:
        return ExitCode.UNREACHABLE
    return ExitCode.FAILED
