"""Every error rankd raises on purpose, at one glance.

    RankdError
    ├── ConfigError            the workspace, a model file or the command line is wrong; nothing was served
    │   ├── WorkspaceError     rankd.yaml; all its problems at once
    │   ├── ExpressionError    an expression, with the place in it
    │   ├── ModelFileError     a model file, with the line or field
    │   └── ExplanationError   a model that is served but cannot be explained
    ├── RequestError           the caller's fault; carries violations with field paths
    ├── StoreError             the signal store cannot do what was asked
    │   └── StoreFullError
    ├── UnavailableError       try again, or elsewhere
    ├── OverloadedError        try again after a while
    └── DeadlinePassedError    the caller's time is over

Messages are for the person who made the mistake: what was expected, what came, where.
Anything else that escapes is a fault of rankd itself: it is logged whole and answered
with INTERNAL and no text of the inside.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass


class Reason(enum.Enum):
    """Machine-readable reasons; the values are those of protos/rankd/v1/error_reason.proto."""

    MALFORMED_MESSAGE = 1
    INVALID_FIELD = 2
    DUPLICATE_ID = 3
    LENGTH_MISMATCH = 4
    UNKNOWN_NAME = 5
    WRONG_TYPE = 6
    LIMIT_EXCEEDED = 7
    BAD_PAGE_TOKEN = 8
    UNKNOWN_PROFILE = 9
    NO_MODEL = 10
    STORE_FULL = 11
    UNAVAILABLE = 12
    DEADLINE_EXCEEDED = 13
    INTERNAL = 14
    OVERLOADED = 15


class RankdError(Exception):
    """The root of all expected errors."""


class ConfigError(RankdError):
    """Something declared is wrong. `where` is "file:line" or a path such as profiles.search.base."""

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(f"{where}: {message}" if where else message)
        self.message = message
        self.where = where


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a workspace.

    `where` is "rankd.yaml:12", or the name of the environment variable or option that set
    the value. `path` is such as profiles.search.base; "" for the whole document.
    """

    where: str
    path: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.path, self.message) if part)


class WorkspaceError(ConfigError):
    """A workspace does not read. At least one problem; all that were found, in file order."""

    SHOWN = 50

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [str(p) for p in self.problems[: self.SHOWN]]
        if len(self.problems) > self.SHOWN:
            lines.append(f"… and {len(self.problems) - self.SHOWN} more problems")
        super().__init__("\n".join(lines))


class ExpressionError(ConfigError):
    """An expression does not parse, type or resolve. `column` is 1-based in `expression`; 0: the whole."""

    def __init__(self, message: str, expression: str = "", column: int = 0, where: str = "") -> None:
        super().__init__(f"{message} (column {column} of `{expression}`)" if column else message, where)
        self.expression = expression
        self.column = column


class ModelFileError(ConfigError):
    """A model file is damaged, hostile or of a kind rankd does not serve. Nothing of it was used."""


class ExplanationError(ConfigError):
    """The model's scores cannot be explained; the message says what its file lacks. Scoring is not affected."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One fault of a request. `field` is a path such as candidates.columns[2].values."""

    field: str
    expected: str
    got: str

    @property
    def description(self) -> str:
        return f"expected {self.expected}, got {self.got}"


class RequestError(RankdError):
    """The request is at fault; nothing was done. At least one violation."""

    def __init__(self, reason: Reason, violations: Sequence[Violation]) -> None:
        self.reason = reason
        self.violations = tuple(violations)
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in self.violations))

    @classmethod
    def one(cls, reason: Reason, field: str, expected: str, got: str) -> RequestError:
        """The common case: a single violation."""
        return cls(reason, [Violation(field, expected, got)])


class StoreError(RankdError):
    """The signal store failed: disk, permission, damage. The message says which and what to do."""


class StoreFullError(StoreError):
    """A bound of the store is reached; nothing of the write was applied."""


class UnavailableError(RankdError):
    """The server is draining or a dependency is away."""


class OverloadedError(RankdError):
    """More calls than can be answered in time. `retry_after_s`: when to try again, seconds."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlinePassedError(RankdError):
    """The call's deadline passed before anything could be returned."""
