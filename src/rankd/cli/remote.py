"""What commands that talk to a server share: --address, --timeout, the connection, printable text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from rankd.cli.exit_codes import ExitCode
from rankd.cli.output import CommandError
from rankd.client import Client, DeadlineError, RankdRpcError, ServerUnavailableError
from rankd.errors import ConfigError

_F = TypeVar("_F", bound=Callable[..., Any])

DEFAULT_ADDRESS = "127.0.0.1:50051"


def remote_options(function: _F) -> _F:
    """--address and --timeout; passes `address` and `timeout_s`."""
    function = click.option(
        "--timeout", "timeout_s", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True,
        metavar="SECONDS", help="How long to wait for each answer.",
    )(function)  # fmt: skip
    return click.option(
        "--address", envvar="RANKD_ADDRESS", default=DEFAULT_ADDRESS, show_default=True, show_envvar=True,
        metavar="HOST:PORT", help="The server.",
    )(function)  # fmt: skip


@contextmanager
def connected(address: str, timeout_s: float) -> Iterator[Client]:
    """A client; a server that is away ends the command with UNREACHABLE and says which one it was."""
    with Client(address, timeout_s=timeout_s, batch_timeout_s=timeout_s) as client:
        try:
            yield client
        except ServerUnavailableError as error:
            raise CommandError(unreachable(address, error), ExitCode.UNREACHABLE) from error
        except DeadlineError as error:
            message = f"rankd at {address} did not answer within {timeout_s:g} s"
            raise CommandError(message, ExitCode.UNREACHABLE) from error


@contextmanager
def breaking_off(address: str, how_far: Callable[[], str]) -> Iterator[None]:
    """Ends work of many calls that breaks off with what was done by then."""
    try:
        yield
    except (ServerUnavailableError, DeadlineError) as error:
        late = f"rankd at {address} did not answer in time"
        cause = unreachable(address, error) if isinstance(error, ServerUnavailableError) else late
        raise CommandError(f"{cause}\n{how_far()}", ExitCode.UNREACHABLE) from error
    except (RankdRpcError, ConfigError) as error:
        raise CommandError(f"{error}\n{how_far()}") from error
    except KeyboardInterrupt:
        click.echo(f"interrupted: {how_far()}", err=True)
        raise


def unreachable(address: str, error: ServerUnavailableError) -> str:
    """One line about a server that is away, or says itself that it cannot: gRPC's own words name every layer they came
    through."""
    if error.reason is not None:
        return f"rankd at {address} cannot do this now: {error.message}"
    cause = error.message.rpartition("last error: ")[2].rpartition(": ")[2]
    return f"cannot reach rankd at {address}: {cause}"


def printable(text: str) -> str:
    """Text for a terminal: what would move its cursor or change its colours is shown escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def shown_number(number: float | None) -> str:
    """Six digits; – where it is missing."""
    return "–" if number is None or number != number else f"{number:.6g}"
