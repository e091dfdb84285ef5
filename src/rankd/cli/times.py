"""Times as options."""

from __future__ import annotations

import re
from typing import Any, Final

import click


class _Time(click.ParamType):  # type: ignore[type-arg]  # generic only for checkers
    """ISO 8601, or milliseconds since 1970: int64 ms since 1970."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See click."""
        from rankd.signals.coerce import coerce_value
        from rankd.types.schema import Signal, SignalKind

        if isinstance(value, int) or re.fullmatch(r"-?[0-9]+", value):
            return int(value)
        try:
            return int(coerce_value(Signal("", SignalKind.TIMESTAMP), value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


TIME: Final = _Time()
