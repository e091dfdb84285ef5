"""Lengths of time and sizes, for people."""

from __future__ import annotations


def shown_span(seconds: float | None) -> str:
    """In the largest unit of which there is at least one, such as 3.5 h; – where it is not known."""
    if seconds is None or seconds != seconds:
        return "–"
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0), ("s", 1.0)):
        if abs(seconds) >= size:
            number = seconds / size
            return f"{number:.0f} {unit}" if abs(number) >= 10 or number == int(number) else f"{number:.1f} {unit}"
    return f"{1000 * seconds:.0f} ms"


def shown_bytes(count: int) -> str:
    """Such as 12.3 MiB."""
    number, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if number < 1024:
            break
        number, unit = number / 1024, larger
    return f"{count} B" if unit == "B" else f"{number:.1f} {unit}"
