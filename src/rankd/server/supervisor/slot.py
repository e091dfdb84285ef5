"""A place for a child: the keeper's, or one of the workers'. What is there now, and when the next is due."""

from __future__ import annotations

from typing import Any

from rankd.server.supervisor.breaker import Breaker
from rankd.server.supervisor.child import Child, Role, State, memory_bytes


class Slot:
    """`current` is the child that serves or will; `replacement` one that is to take over when it is ready;
    `leaving` are those that were replaced and finish their calls."""

    def __init__(self, role: Role, index: int) -> None:
        self.role = role
        self.index = index
        self.breaker = Breaker()
        self.current: Child | None = None
        self.replacement: Child | None = None
        self.leaving: list[Child] = []
        self.start_at_s = 0.0
        """Not before this time is a child started."""
        self.restarts = 0
        """Starts after a child's unexpected end."""
        self.recycled = 0
        """Replacements because of memory."""
        self.recycle_at_s = 0.0
        """Not before this time is the next replacement tried."""
        self.last_end = ""
        """How the last child that died did so."""

    @property
    def children(self) -> list[Child]:
        """All processes of this place."""
        return [child for child in (self.current, self.replacement, *self.leaving) if child is not None]

    @property
    def is_ready(self) -> bool:
        """Whether it serves."""
        return self.current is not None and self.current.state is State.SERVING

    def is_due(self, now_s: float) -> bool:
        """Whether a child is missing and may be started."""
        return self.current is None and now_s >= self.start_at_s

    def drop(self, child: Child) -> None:
        """Forgets a child that has ended."""
        if child is self.current:
            self.current = None
        elif child is self.replacement:
            self.replacement = None
        else:
            self.leaving.remove(child)

    def promote(self) -> Child | None:
        """The replacement takes over; gives the child that is to leave."""
        old, self.current, self.replacement = self.current, self.replacement, None
        if old is not None:
            self.leaving.append(old)
        return old

    def report(self, now_s: float) -> list[dict[str, Any]]:
        """The rows of this place in `rankd status`."""
        rows = [self._row(child, now_s) for child in self.children]
        if self.current is None:
            rows.insert(0, self._row(None, now_s))
        return rows

    def _row(self, child: Child | None, now_s: float) -> dict[str, Any]:
        beat = child.beat if child is not None else {}
        resident, own = memory_bytes(child.pid) if child is not None else (0, 0)
        waits = child is None and now_s < self.start_at_s
        return {
            "role": self.role.value,
            "name": self.role.value if self.role is Role.KEEPER else f"{self.role} {self.index}",
            "pid": child.pid if child is not None else None,
            "state": (child.state if child is not None else State.BACKING_OFF if waits else State.STARTING).value,
            "uptime_s": round(now_s - child.started_s, 3) if child is not None else None,
            "retry_in_s": round(self.start_at_s - now_s, 3) if waits else None,
            "restarts": self.restarts,
            "recycled": self.recycled,
            "last_end": self.last_end or None,
            "in_flight": beat.get("in_flight"),
            "calls": beat.get("calls"),
            "rows": beat.get("rows"),
            "replica": beat.get("replica"),
            "versions": beat.get("versions"),
            "reload": beat.get("reload"),
            "resident_bytes": resident,
            "own_bytes": own,
        }
