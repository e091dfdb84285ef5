"""The README's commands run: blocks marked `test`, in order, in one shell, against the installation at hand."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

from support.repository import ROOT, text

README = Path("README.md")
ADDRESS, HEALTH = "127.0.0.1:50051", "127.0.0.1:50052"


def blocks() -> list[tuple[str, str]]:
    """(language, code) of the blocks marked `test`."""
    return re.findall(r"^```(sh|python) test\n(.*?)^```", text(README), re.DOTALL | re.MULTILINE)


def free_addresses() -> tuple[str, str]:
    """Two addresses that nobody listens on."""
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind(("127.0.0.1", 0))
        return tuple(f"127.0.0.1:{each.getsockname()[1]}" for each in (one, two))  # type: ignore[return-value]


def script(address: str) -> str:
    """One shell script of all blocks; after a command in the background it waits until the server listens."""
    host, _, port = address.partition(":")
    wait = f"until (exec 3<>/dev/tcp/{host}/{port}) 2>/dev/null; do kill -0 $!; sleep 0.1; done"
    lines = ["set -euo pipefail", "trap 'kill $(jobs -p) && wait' EXIT"]
    for language, code in blocks():
        code = code.replace(ADDRESS, address)
        if language == "python":
            lines.append(f"python - <<'PYTHON'\n{code}PYTHON")
            continue
        for line in code.splitlines():
            lines += [line, wait] if re.search(r"&\s*(#|$)", line) else [line]
    return "\n".join(lines) + "\n"


def test_the_quick_start_runs(tmp_path: Path) -> None:
    assert len(blocks()) >= 3
    address, health = free_addresses()
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RANKD_SERVER__LISTEN": address,
        "RANKD_SERVER__HEALTH_LISTEN": health,
        "RANKD_SERVER__DRAIN_SECONDS": "0",
        "RANKD_ADDRESS": address,
    }
    command = ["bash", "-c", script(address)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "20 rows written" in done.stdout
    # The command line's table and the Python client's lines.
    assert re.search(r"^ *1 +p01 ", done.stdout, re.MULTILINE)
    assert len(re.findall(r"^\d p0\d \d", done.stdout, re.MULTILINE)) == 4


def test_the_two_commands_are_there() -> None:
    assert re.search(r"^    make demo .*\n    make test ", text(README), re.MULTILINE)
    assert (ROOT / "docs" / "picture.svg").stat().st_size > 0


def test_the_example_profile_is_that_of_the_starter() -> None:
    """What the README shows of shop/rankd.yaml stands there, line by line."""
    starter = text(Path("src/rankd/cli/starter/rankd.yaml"))
    (shown,) = re.findall(r"^```yaml\n(.*?)^```", text(README), re.DOTALL | re.MULTILINE)
    assert textwrap.indent(shown, "  ") in starter
