"""The frame of the command line: help, errors, exit statuses, completion."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click
import grpc
import pytest
from click.testing import CliRunner

from rankd import __version__
from rankd.cli import main as cli_main
from rankd.cli.exit_codes import ExitCode
from rankd.cli.main import COMMANDS, cli
from rankd.errors import ConfigError, RankdError, UnavailableError

REPOSITORY = Path(__file__).parents[2]


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, arguments, prog_name="rankd")
    return result.exit_code, result.stdout, result.stderr


def test_help_lists_every_command_under_a_heading() -> None:
    code, out, _ = run("--help")
    assert code == 0
    for name, entry in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(entry.summary)}$", out, re.MULTILINE), name
        assert f"{entry.section}:" in out
    assert "Examples:" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(name: str) -> None:
    module = COMMANDS[name].target.partition(":")[0]
    if find_spec(module) is None:
        pytest.skip(f"{module} is not written yet")
    code, out, err = run(name, "--help")
    assert code == 0, err
    assert "Example" in out
    assert f"rankd {name}" in out


def test_version() -> None:
    assert run("--version") == (0, f"rankd {__version__}\n", "")


@pytest.mark.parametrize("arguments", [(), ("chek",), ("--no-such-option",), ("check", "/no/such/directory")])
def test_wrong_usage_exits_2(arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (ExitCode.USAGE, "")
    assert "Usage: rankd" in err


class CallError(RankdError):
    """As the client's: it has a grpc status as `code`."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__("the call failed")
        self.code = code


FAILURES = [
    (ConfigError("expected x, got y", "profiles.s"), 1, "Error: profiles.s: expected x, got y\n"),
    (UnavailableError("draining"), 3, "Error: draining\n"),
    (CallError(grpc.StatusCode.UNAVAILABLE), 3, "Error: the call failed\n"),
    (CallError(grpc.StatusCode.DEADLINE_EXCEEDED), 3, "Error: the call failed\n"),
    (CallError(grpc.StatusCode.NOT_FOUND), 1, "Error: the call failed\n"),
    (PermissionError(13, "Permission denied", "/x"), 1, "Error: Permission denied: /x\n"),
    (KeyboardInterrupt(), 130, ""),
    (KeyError("boom"), 70, "unexpected KeyError: 'boom'"),
]


@pytest.mark.parametrize(("error", "status", "message"), FAILURES, ids=[repr(f[0])[:40] for f in FAILURES])
def test_errors_end_with_a_message_and_a_status(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, message: str
) -> None:
    @click.command()
    def failing() -> None:
        raise error

    monkeypatch.setattr(cli_main.importlib, "import_module", lambda _: type("M", (), {"command": failing}))
    code, out, err = run("check")
    assert (code, out) == (status, "")
    assert message in err
    assert "Traceback" not in err
    if status == ExitCode.INTERNAL:
        assert "--debug" in err
    code, _, err = run("--debug", "check")
    assert code == status
    assert ("Traceback" in err) is (status != ExitCode.INTERRUPTED)


def test_the_table_of_exit_statuses_in_the_docs_is_the_one_in_the_code() -> None:
    text = (REPOSITORY / "docs/cli.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.+?) \|$", text, re.MULTILINE)
    assert rows == [(str(int(code)), code.meaning) for code in ExitCode]


def test_help_imports_nothing_slow() -> None:
    slow = ("grpc", "numpy", "pydantic", "rich", "yaml")
    script = (
        "import sys\nfrom rankd.cli.main import cli\n"
        "try: cli(['--help'], prog_name='rankd')\nexcept SystemExit: pass\n"
        f"print('IMPORTED', [m for m in {slow} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert "IMPORTED []" in done.stdout


def complete(words: str) -> list[str]:
    environ = {
        **os.environ,
        "_RANKD_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    script = "from rankd.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True, timeout=60
    )
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_completion_names_the_commands_and_their_options() -> None:
    assert complete("rankd ") == list(COMMANDS)
    assert complete("rankd ch") == ["check"]
    assert "--json" in complete("rankd check --")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_ask_rankd(shell: str) -> None:
    code, out, err = run("completion", shell)
    assert code == 0, err
    assert f"_RANKD_COMPLETE={shell}_complete" in out
    assert "rankd" in out
