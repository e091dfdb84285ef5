"""`rankd train` and `rankd evaluate` on the workspace that `rankd init` writes, against a served process."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rankd.cli.exit_codes import ExitCode
from rankd.cli.main import cli
from rankd.cli.train import importance_lines
from rankd.learn.process import ServerProcess


@dataclass(frozen=True)
class Shop:
    """The starter's workspace, loaded and served."""

    directory: Path
    address: str

    def rankd(self, *arguments: str) -> Result:
        """Runs a command against it."""
        return CliRunner().invoke(cli, [*arguments, "--address", self.address])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    directory = tmp_path_factory.mktemp("starter") / "shop"
    assert CliRunner().invoke(cli, ["init", str(directory)]).exit_code == 0
    with ServerProcess(directory) as server:
        it = Shop(directory, server.address)
        for entity in ("item", "user"):
            assert it.rankd("load", str(directory / f"{entity}s.jsonl"), "--entity", entity).exit_code == 0
        yield it


def train(shop: Shop, *more: str) -> Result:
    judgments = str(shop.directory / "judgments.csv")
    return shop.rankd(
        "train", "--profile", "search", "--judgments", judgments, "--workspace", str(shop.directory),
        "--output", "models/m.txt", "--trees", "10", "--least-leaf-rows", "2", "--threads", "1", *more,
    )  # fmt: skip


def test_a_trained_model_is_served_and_measured(shop: Shop) -> None:
    pytest.importorskip("lightgbm", reason="LightGBM (the extra `train`) is not installed")
    result = train(shop, "--folds", "2", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["unknown_candidates"] == 0
    assert document["validation"]["folds"] == 2
    assert 0 <= document["validation"]["ci95"][0] <= document["validation"]["ndcg"] <= 1
    first = (shop.directory / "models/m.txt").read_bytes()
    assert train(shop, "--folds", "0").exit_code == 0
    assert (shop.directory / "models/m.txt").read_bytes() == first

    text = (shop.directory / "rankd.yaml").read_text()
    served = shop.directory.parent / "with-model"
    (served / "models").mkdir(parents=True)
    (served / "models/m.txt").write_bytes(first)
    text = text.replace("  search:\n", "  search:\n    model: m\n")
    (served / "rankd.yaml").write_text(text + "\nmodels:\n  m: {file: models/m.txt}\n")
    with ServerProcess(served) as server:
        result = Shop(served, server.address).rankd(
            "evaluate", "--profile", "search", "--judgments", str(shop.directory / "judgments.csv"), "--json"
        )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["model"].startswith("m@")


def test_train_reports_for_people(shop: Shop) -> None:
    pytest.importorskip("lightgbm", reason="LightGBM (the extra `train`) is not installed")
    result = train(shop, "--folds", "2")
    assert result.exit_code == 0, result.output
    for part in ("in training", "out of fold", "Share of gain", "Wrote "):
        assert part in result.stdout


def test_evaluate_prints_measures_and_conventions(shop: Shop) -> None:
    arguments = ("evaluate", "--profile", "search", "--judgments", str(shop.directory / "judgments.csv"))
    result = shop.rankd(*arguments)
    assert result.exit_code == 0, result.output
    for part in ("NDCG@10", "MRR", "MAP", "recall@10", "counted as not relevant", "left out", "has no model"):
        assert part in result.stdout
    document = json.loads(shop.rankd(*arguments, "--k", "3", "--json").stdout)
    ndcg = document["measures"]["NDCG@3"]
    assert ndcg["base"] == ndcg["ranked"]
    assert ndcg["difference"]["mean"] == 0


def test_without_lightgbm_it_says_what_to_install(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    result = train(shop)
    assert result.exit_code == ExitCode.FAILED
    assert "pip install 'rankd[train]'" in result.stderr


def test_errors_have_their_statuses(shop: Shop, tmp_path: Path) -> None:
    judgments = str(shop.directory / "judgments.csv")
    away = CliRunner().invoke(
        cli, ["evaluate", "--profile", "search", "--judgments", judgments, "--address", "127.0.0.1:1", "--timeout", "2"]
    )
    assert away.exit_code == ExitCode.UNREACHABLE, away.output
    assert shop.rankd("evaluate", "--profile", "serach", "--judgments", judgments).exit_code == ExitCode.FAILED
    assert shop.rankd("evaluate", "--profile", "search", "--judgments", "none.csv").exit_code == ExitCode.USAGE
    (tmp_path / "bad.csv").write_text("query,id,grade\nq,a,high\n")
    bad = shop.rankd("evaluate", "--profile", "search", "--judgments", str(tmp_path / "bad.csv"))
    assert bad.exit_code == ExitCode.FAILED
    assert 'bad.csv:2: grade: expected a number, got "high"' in bad.stderr


def test_importances_are_bars_of_shares() -> None:
    lines = importance_lines(["small", "large", "none"], [1.0, 3.0, 0.0], shown=2)
    assert lines[0].split()[:2] == ["large", "75.0%"]
    assert lines[0].count("█") == 3 * lines[1].count("█")
    assert lines[2] == "  … and 1 more: 0.0%"


def test_events_move_the_list_and_count_once(shop: Shop) -> None:
    def ranked() -> list[str]:
        document = json.loads(shop.rankd("rank", "--profile", "browse", "--ids", "p03,p13,p19", "--json").stdout)
        return [item["id"] for item in document["items"]]

    def heat() -> float:
        signals = json.loads(shop.rankd("get", "p03", "--json").stdout)["rows"][0]["signals"]
        return float(signals["heat"])

    assert ranked()[-1] == "p03"
    for _ in range(2):
        assert shop.rankd("ingest", str(shop.directory / "events.jsonl")).exit_code == 0
        assert ranked()[0] == "p03"
        assert heat() == pytest.approx(7, rel=1e-3), "2 clicks and a purchase of 5"
