"""The demo, on a smaller shop: it works, prints the same twice, fits the terminal, and cleans up."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from rankd.cli import demo
from rankd.cli.demo_report import WIDTH, Report
from rankd.cli.main import cli

_SECONDS = re.compile(r"\d+(\.\d+)? m?s\b")

_SIZES = {
    "PRODUCTS": 500,
    "USERS": 40,
    "QUERIES": 40,
    "LOGGED_QUERIES": 28,
    "PAST_SESSIONS": 1_000,
    "TRAINING_SESSIONS": 150,
    "USERS_PER_TEST_QUERY": 2,
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightgbm", reason="LightGBM (the extra `train`) is not installed")
    for name, value in _SIZES.items():
        monkeypatch.setattr(demo, name, value)


def output(workspace: Path) -> str:
    workspace.mkdir()
    text = io.StringIO()
    demo.run(workspace, 7, Report(Console(file=text, width=WIDTH, highlight=False)), kept=False)
    # Times, and the blanks that align them, are all that may differ.
    return re.sub(r" +", " ", _SECONDS.sub("TIME", text.getvalue()))


@pytest.mark.slow
def test_it_prints_the_same_twice(tmp_path: Path) -> None:
    first, second = output(tmp_path / "first"), output(tmp_path / "second")
    assert first == second
    assert (tmp_path / "first/models/shop.txt").read_bytes() == (tmp_path / "second/models/shop.txt").read_bytes()
    for part in ("base order", "ranked by the model", "NDCG@10", "recall@10", "Rank TIME", "├─ features", "Done in"):
        assert part in first
    assert "\x1b" not in first


@pytest.mark.slow
def test_it_fits_a_terminal_and_keeps_a_workspace(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["demo", "--dir", str(tmp_path / "shop")])
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if str(tmp_path) not in line]
    assert not [line for line in lines if len(line) > WIDTH]
    for name in ("rankd.yaml", "items.jsonl", "users.jsonl", "clicks.jsonl", "truth.jsonl", "models/shop.txt"):
        assert (tmp_path / "shop" / name).stat().st_size > 0
    assert CliRunner().invoke(cli, ["check", str(tmp_path / "shop")]).exit_code == 0


def test_a_directory_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    result = CliRunner().invoke(cli, ["demo", "--dir", str(tmp_path)])
    assert result.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_failing_step_fails_the_demo_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(demo, "train", fail)
    result = CliRunner().invoke(cli, ["demo"])
    assert result.exit_code == 1
    assert "No space left" in result.stderr
    assert list(tmp_path.iterdir()) == []
