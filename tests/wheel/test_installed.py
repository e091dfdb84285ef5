"""The installed command, end to end: init, check, serve, load, rank, SIGTERM.

`make wheel-test` runs this against a wheel with the source tree out of the way; the ordinary
test run does so against the installation in place.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import rankd

COMMAND = Path(sys.executable).parent / "rankd"


def run(*arguments: str, cwd: Path, **environment: str) -> str:
    """Standard output of `rankd ARGUMENTS`, which must succeed."""
    command = [str(COMMAND), *arguments]
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    run("init", "shop", cwd=tmp_path)
    return tmp_path / "shop"


@pytest.fixture
def server(shop: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A serving process of the shop on free ports, and its address."""
    command = [str(COMMAND), "serve", str(shop), "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"]
    environment = {**os.environ, "RANKD_SERVER__DRAIN_SECONDS": "0"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as it:
        alarm = threading.Timer(60, it.kill)
        alarm.start()
        try:
            assert it.stdout is not None
            said = []
            for line in it.stdout:
                said.append(line)
                if found := re.search(r"serving on (\S+?)[,;]", line):
                    # Whatever it says from here on must not fill the pipe.
                    threading.Thread(target=it.stdout.read, daemon=True).start()
                    yield it, found[1]
                    break
            else:
                pytest.fail("the server ended before it served:\n" + "".join(said))
        finally:
            alarm.cancel()
            it.kill()


def test_version(tmp_path: Path) -> None:
    assert rankd.__version__ in run("--version", cwd=tmp_path)


def test_check(shop: Path) -> None:
    assert json.loads(run("check", "--json", cwd=shop))["ok"] is True


def test_from_files_to_a_ranked_list(shop: Path, server: tuple[subprocess.Popen[str], str]) -> None:
    process, address = server
    run("load", "items.jsonl", cwd=shop, RANKD_ADDRESS=address)
    run("load", "--entity", "user", "users.jsonl", cwd=shop, RANKD_ADDRESS=address)
    ids = [json.loads(line)["id"] for line in (shop / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    ask = ["rank", "--profile", "search", "--query", "running shoes", "--ids", ",".join([*ids, "nobody"]), "--json"]
    answer = json.loads(run(*ask, cwd=shop, RANKD_ADDRESS=address))
    ranked = [row["id"] for row in answer["items"]]
    assert sorted(ranked) == sorted([*ids, "nobody"])
    assert ranked[0] in ("p01", "p02"), "the products whose title has both words come first"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
