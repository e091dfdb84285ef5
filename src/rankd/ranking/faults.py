"""What csrc/rk_rank.h finds wrong with a call, and the error that says so to its caller.

The kernel reports a fault as numbers and spans of the request; the words are written here, once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from rankd.errors import DeadlinePassedError, RankdError, Reason, RequestError
from rankd.ranking.wording import quoted, unknown_name
from rankd.types.profile import Profile

MALFORMED: Final = "malformed"
DEADLINE: Final = "deadline"
NO_MEMORY: Final = "no_memory"
INTERNAL: Final = "internal"

CONTEXT_CASES: Final = ("no value", "number", "category", "text", "vector", "set", "timestamp", "flag")
"""The fields of ContextValue by the numbers of rk_context_case."""

SURFACE_NAMES: Final = ("UNSPECIFIED", "SEARCH", "BROWSE", "AUTOCOMPLETE", "RECOMMENDATION")
VIEW_NAMES: Final = ("UNSPECIFIED", "BASIC", "SCORES", "FEATURES")


@dataclass(frozen=True, slots=True)
class RankFault:
    """A fault of a call or, in a batch, of one list.

    `kind` is one of csrc/rk_rank.h's RK_FAULTS, where the meaning of the numbers and texts stands. `field` is a path
    with {index}, {at} and {name} to be filled in; `prefix` what stands before it. `known`: the names that `text` or
    `name` is none of. `profile`: None before one is found.
    """

    kind: str
    field: str
    index: int
    at: int
    limit: int
    count: int
    other: int
    number: float
    text: str
    name: str
    request_id: str
    prefix: str = ""
    profile: Profile | None = None
    known: Sequence[str] = ()

    @property
    def path(self) -> str:
        """The path of the field at fault."""
        return self.prefix + self.field.format(index=self.index, at=self.at, name=quoted(self.name))


def to_error(fault: RankFault) -> RankdError | MemoryError | RuntimeError:
    """The error to be answered with. Not for MALFORMED: what is wrong with the bytes is not known here."""
    if fault.kind == DEADLINE:
        return DeadlinePassedError("the deadline passed before the work was done")
    if fault.kind == NO_MEMORY:
        return MemoryError("no memory to rank")
    if fault.kind == INTERNAL:
        return RuntimeError(f"a program was refused: status {fault.count}, position {fault.at}")
    if fault.kind in _UNKNOWN:
        reason, got = _UNKNOWN[fault.kind](fault)
        return unknown_name(reason, fault.path, fault.known, got)
    if fault.kind not in _TEXTS:
        raise ValueError(f"no error is made of the fault {fault.kind!r}")
    reason, suffix, words = _TEXTS[fault.kind]
    return RequestError.one(reason, fault.path + suffix, *words(fault))


_UNKNOWN: Final[dict[str, Callable[[RankFault], tuple[Reason, str]]]] = {
    "unknown_profile": lambda f: (Reason.UNKNOWN_PROFILE, f.text),
    "unknown_context": lambda f: (Reason.UNKNOWN_NAME, f.name),
    "unknown_column": lambda f: (Reason.UNKNOWN_NAME, f.text),
}

_COUNTED: Final = {
    "user.segments": "segments",
    "labels": "labels",
    "candidates.ids": "candidates",
    "candidates.columns": "columns",
    "context_features[{name}].set.values": "strings",
}
"""What there are too many of, by the field."""


def _one_of(prefix: str, names: Sequence[str]) -> str:
    return f"one of {', '.join(f'{prefix}_{name}' for name in names)}"


def _profile(fault: RankFault) -> Profile:
    assert fault.profile is not None, "these faults are found after the profile"
    return fault.profile


_Words = Callable[[RankFault], tuple[str, str]]
_UNCHANGED: Final = "a token from next_page_token, unchanged"
_NUMBER: Final = "a number, or NaN for missing"

_TEXTS: Final[dict[str, tuple[Reason, str, _Words]]] = {
    "no_model": (
        Reason.NO_MODEL, "", lambda f: ("a profile with a model", f'"{_profile(f).name}" without one')
    ),
    "many_outputs": (
        Reason.INVALID_FIELD, "",
        lambda f: (
            "a profile whose model has one output (or the method Score)",
            f'"{_profile(f).name}", whose model has {f.count}',
        ),
    ),
    "too_long": (Reason.LIMIT_EXCEEDED, "", lambda f: (f"at most {f.limit} bytes", f"{f.count}")),
    "too_many": (Reason.LIMIT_EXCEEDED, "", lambda f: (f"at most {f.limit} {_COUNTED[f.field]}", f"{f.count}")),
    "no_surface": (Reason.INVALID_FIELD, "", lambda f: (_one_of("SURFACE", SURFACE_NAMES), f"{f.count}")),
    "no_view": (Reason.INVALID_FIELD, "", lambda f: (_one_of("VIEW", VIEW_NAMES), f"{f.count}")),
    "page_size": (Reason.INVALID_FIELD, "", lambda f: (f"1 to {f.limit}", f"{f.count}")),
    "seconds": (Reason.INVALID_FIELD, ".seconds", lambda f: ("a time of the years 1 to 9999", f"{f.count}")),
    "nanos": (Reason.INVALID_FIELD, ".nanos", lambda f: ("0 to 999999999", f"{f.count}")),
    "context_type": (
        Reason.WRONG_TYPE, "", lambda f: (_profile(f).context[f.name].type_name, CONTEXT_CASES[f.other])
    ),
    "repeated_column": (Reason.INVALID_FIELD, "", lambda f: ("distinct names", f"{quoted(f.text)} again")),
    "one_per_id": (Reason.LENGTH_MISMATCH, "", lambda f: (f"{f.limit} values, one per id", f"{f.count}")),
    "one_per_id_or_none": (
        Reason.LENGTH_MISMATCH, "", lambda f: (f"{f.limit} values, one per id, or none", f"{f.count}")
    ),
    "dimension": (Reason.LENGTH_MISMATCH, "", lambda f: (f"{f.limit} numbers", f"{f.count}")),
    "infinite": (Reason.INVALID_FIELD, "", lambda f: (_NUMBER, f"{f.number}")),
    "not_finite": (Reason.INVALID_FIELD, "", lambda f: ("a finite number", f"{f.number}")),
    "empty_id": (Reason.INVALID_FIELD, "", lambda f: ("a non-empty id", '""')),
    "duplicate_id": (
        Reason.DUPLICATE_ID, "", lambda f: ("distinct ids", f"{quoted(f.text)}, which is also ids[{f.other}]")
    ),
    "repeated_member": (Reason.INVALID_FIELD, "", lambda f: ("distinct strings", f"{quoted(f.text)} again")),
    "batch_candidates": (Reason.INVALID_FIELD, "", lambda f: ("nothing: lists have candidates", "some")),
    "batch_token": (Reason.INVALID_FIELD, "", lambda f: ("nothing: lists have tokens", "one")),
    "batch_lists": (
        Reason.LIMIT_EXCEEDED, "", lambda f: (f"1 to {f.limit} lists", f"{f.count}")
    ),
    "batch_empty": (Reason.INVALID_FIELD, "", lambda f: (f"1 to {f.limit} lists", f"{f.count}")),
    "batch_total": (
        Reason.LIMIT_EXCEEDED, "", lambda f: (f"at most {f.limit} candidates in all lists together", f"{f.count}")
    ),
    "token_form": (Reason.BAD_PAGE_TOKEN, "", lambda f: (_UNCHANGED, "something else")),
    "token_damaged": (Reason.BAD_PAGE_TOKEN, "", lambda f: (_UNCHANGED, "a damaged one")),
    "token_other": (
        Reason.BAD_PAGE_TOKEN, "",
        lambda f: ("a token of this request", "one of another profile, query, user, context or candidates"),
    ),
    "token_order": (Reason.BAD_PAGE_TOKEN, "", lambda f: (_UNCHANGED, "one whose order does not fit the candidates")),
}  # fmt: skip
"""By kind: the reason, what is added to the path, and what was expected and what came."""
