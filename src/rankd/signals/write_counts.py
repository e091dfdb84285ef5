"""What was written, counted since the process started: for metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from rankd.signals.store import WriteResult

KINDS: Final = ("written", "rejected", "late", "repeated", "deleted")
"""Rows, but for `late`: values that were not written because the stored ones are of a later time."""


class WriteCounts:
    """By entity and kind. Belongs to one thread; may be read by others."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}

    def add(self, entity: str, **counts: int) -> None:
        """`counts`: by kind."""
        self._counts.setdefault(entity, Counter()).update(counts)

    def add_result(self, entity: str, result: WriteResult) -> None:
        """What became of a batch."""
        self.add(
            entity,
            written=result.written_count,
            rejected=len(result.rejected),
            late=result.late_count,
            repeated=result.repeated_count,
        )

    def add_rejected(self, rows: Mapping[str, int]) -> None:
        """Rows that were turned away elsewhere, by entity."""
        for entity, count in rows.items():
            self.add(entity, rejected=count)

    def totals(self) -> Mapping[str, Mapping[str, int]]:
        """By entity, by kind; kinds that were never counted are missing."""
        return {entity: dict(counter) for entity, counter in list(self._counts.items())}
