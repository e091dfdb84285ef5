from collections.abc import Sequence
from typing import Any

def decode(kind: str, data: bytes | bytearray | memoryview) -> dict[str, Any] | None: ...
def encode_answer(
    *,
    ids: Sequence[str],
    indexes: Sequence[int],
    request_id: str = "",
    versions: tuple[str, str, str] = ("", "", ""),
    first_rank: int = 1,
    scores: Sequence[float] | None = None,
    base_scores: Sequence[float] | None = None,
    features: Sequence[tuple[str, Sequence[float]]] = (),
    signal_ages: Sequence[tuple[str, Sequence[float]]] = (),
    total_count: int = 0,
    rescored_count: int = 0,
    missing: Sequence[int] = (),
    next_page_token: str = "",
    timings: Sequence[tuple[str, float]] = (),
    told: bytes = b"",
    degradation: bytes = b"",
    as_result: bool = False,
) -> bytes: ...
def encode_scores(
    *,
    ids: Sequence[str],
    request_id: str = "",
    versions: tuple[str, str, str] = ("", "", ""),
    outputs: Sequence[tuple[str, Sequence[float]]] = (),
    features: Sequence[tuple[str, Sequence[float]]] = (),
    missing: Sequence[int] = (),
    signal_ages: Sequence[tuple[str, Sequence[float]]] = (),
    told: bytes = b"",
) -> bytes: ...
