"""What a ranking is asked with: plain values, checked by the caller, shared or per list."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rankd.signals.store import SignalRows
from rankd.types.columns import Column


class View(enum.IntEnum):
    """How much comes back; the values are those of protos/rankd/v1/ranking.proto."""

    BASIC = 1
    SCORES = 2
    FEATURES = 3


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What all lists of a call share.

    `user_id` is the user's or, without one, the visitor's; "" is unknown. `as_of_s`: seconds
    since 1970 that ages are computed against; `as_of_given`: the caller set it. `session_id`: "" is unknown. `context`:
    declared context features as columns of length 1; absent ones are missing.
    """

    as_of_s: float
    as_of_given: bool = False
    query_text: str = ""
    language: str = ""
    surface: str = ""
    segments: Sequence[str] = ()
    user_id: str = ""
    session_id: str = ""
    context: Mapping[str, Column] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CandidateList:
    """One list to rank: distinct ids, (n,) base scores or None, (n,) float32 columns by name."""

    ids: Sequence[str]
    base_scores: NDArray[np.float64] | None = None
    columns: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    page_size: int | None = None
    page_token: str = ""
    view: View = View.BASIC


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What the store knows: by entity, one SignalRows, as long as the list or of 1 row. `ages`: of each signal
    ("item.price"), in seconds, float32, as long as the list."""

    rows: Mapping[str, SignalRows]
    ages: Mapping[str, NDArray[np.float32]]
