"""`rankd model`: what inspect tells of every kind of model, and compiling."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from support import xgboost_boosters
from support.boosters import booster
from support.catboost_boosters import catboost_model

from rankd.cli.exit_codes import ExitCode
from rankd.cli.main import cli
from rankd.cli.model_timing import BATCHES, rows_around, us_per_row
from rankd.kernels.forest import TIERS, Forest
from rankd.models import ForestScorer, facts, parse_lightgbm
from rankd.models.load import read_model
from rankd.models.objective import IDENTITY

LINEAR = '{"format": "rankd.linear/1", "weights": {"price": -1, "ctr": 2}}'


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["model", *map(str, arguments)], prog_name="rankd")
    return result.exit_code, result.stdout, result.stderr


def model_file(folder: Path, name: str = "lambdarank") -> Path:
    path = folder / "shop.txt"
    path.write_text(booster(name).model_to_string())
    return path


def inspected(path: Path, *arguments: object) -> dict[str, Any]:
    code, out, err = run("inspect", path, "--json", *arguments)
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def test_what_is_told_of_a_lightgbm_model(tmp_path: Path) -> None:
    found = inspected(model_file(tmp_path), "--no-measure")
    trees = booster("lambdarank").dump_model()["tree_info"]
    leaves = [tree["num_leaves"] for tree in trees]
    assert (found["format"], found["family"], found["objective"]) == ("lightgbm", "lightgbm", "lambdarank")
    assert found["trees"] == len(trees) == 40
    assert found["leaves"] == {
        "total": sum(leaves), "min": min(leaves), "median": float(np.median(leaves)), "max": max(leaves),
    }  # fmt: skip
    splits = booster("lambdarank").feature_importance("split").tolist()
    assert [feature["splits"] for feature in found["by_feature"]] == splits
    assert found["features_used"] == sum(count > 0 for count in splits)
    assert found["explainable"] is True
    assert found["us_per_row"] == {}
    assert found["bytes"] == (tmp_path / "shop.txt").stat().st_size


def nodes_of(tree: Any, depth: int = 0) -> list[tuple[int, str, int, float | str]]:
    """(depth, decision, feature, threshold) of all nodes."""
    if "split_feature" not in tree:
        return []
    own = (depth, tree["decision_type"], tree["split_feature"], tree["threshold"])
    return [own, *nodes_of(tree["left_child"], depth + 1), *nodes_of(tree["right_child"], depth + 1)]


@pytest.mark.parametrize("name", ["large_bins", "many_categories", "deep"])
def test_thresholds_axes_and_depth_are_those_of_the_nodes(name: str, tmp_path: Path) -> None:
    found = inspected(model_file(tmp_path, name), "--no-measure")
    trees = [nodes_of(tree["tree_structure"]) for tree in booster(name).dump_model()["tree_info"]]
    nodes = [node for tree in trees for node in tree]
    assert found["depth"]["max"] == max(depth for depth, *_ in nodes) + 1
    for i, feature in enumerate(found["by_feature"]):
        mine = [node for node in nodes if node[2] == i]
        numeric = {np.float32(threshold) for _, kind, _, threshold in mine if kind == "<="}
        assert feature["categorical_splits"] == sum(kind == "==" for _, kind, *_ in mine)
        assert feature["thresholds"] == len(numeric)
        assert feature["axes"] == -(-len(numeric) // 255)
    assert found["conditions"] >= sum(feature["thresholds"] for feature in found["by_feature"])


def write_xgboost(path: Path, name: str, kind: str) -> Path:
    path.write_bytes(xgboost_boosters.model_bytes(name, kind))
    return path


def test_other_families(tmp_path: Path) -> None:
    path = tmp_path / "m"
    assert inspected(write_xgboost(path, "softprob", "ubj"), "--no-measure")["objective"] == "multi:softprob"
    found = inspected(write_xgboost(path, "vector", "json"), "--no-measure")
    assert (found["family"], len(found["outputs"])) == ("xgboost", 3)
    path.write_bytes(catboost_model("scaled")[1])
    found = inspected(path, "--no-measure")
    assert (found["family"], found["objective"], found["scale"]) == ("catboost", "RMSE", 1.2345678)
    assert found["oblivious_trees"] == found["trees"]
    path.write_text(LINEAR)
    found = inspected(path)
    assert (found["family"], found["features"]) == ("linear", 2)
    assert set(found["us_per_row"]) == {"score"}
    assert "trees" not in found
    code, out, _ = run("inspect", path, "--no-measure")
    assert code == 0
    assert "2, each with a weight" in out


def test_why_scores_cannot_be_explained(tmp_path: Path) -> None:
    found = inspected(model_file(tmp_path, "linear"), "--no-measure")
    assert found["linear_leaves"] > 0
    assert (found["explainable"], found["why_not_explainable"]) == (False, "cannot explain: the model has linear trees")


def test_every_tier_is_measured_and_the_chosen_one_told(tmp_path: Path) -> None:
    found = inspected(model_file(tmp_path))
    available = {tier for tier, told in found["tiers"].items() if told["available"]}
    assert set(found["tiers"]) == set(TIERS) - {"auto"}
    assert available >= {"scalar", "walk", "bits"}
    assert all((told["why_not"] is None) == told["available"] for told in found["tiers"].values())
    assert set(found["us_per_row"]) == available
    assert all(figure > 0 for by_batch in found["us_per_row"].values() for figure in by_batch.values())
    assert [chosen["rows"] for chosen in found["chosen"]] == list(BATCHES)
    assert found["chosen"][0]["tier"] == "walk"
    assert re.match(r"up to \d+ rows, walking each costs less", found["chosen"][0]["why"])
    assert found["chosen"][-1]["tier"] in available


def test_as_text(tmp_path: Path) -> None:
    code, out, err = run("inspect", model_file(tmp_path), "--top", "2")
    assert code == 0, err
    for pattern in (
        r"objective +lambdarank, transform identity", r"trees +40; \d+ categorical", r"features +\d used of 7 declared",
        r"explanations +yes", r"1 rows: walk, up to", r"feature +splits +thresholds +axes", r"walk +[\d.]+\*", "█",
    ):  # fmt: skip
        assert re.search(pattern, out), pattern
    assert out.count("Column_") == 2
    assert "the tier that is taken" in err


def big_tree(nodes: int) -> ForestScorer:
    """One chain of so many nodes: no tier of rows as bits can bound it when they are above 8,190."""
    index = np.arange(nodes, dtype=np.int32)
    forest = Forest(
        features=1, outputs=1, node_begin=np.array([0, nodes], np.uint32), split_feature=np.zeros(nodes, np.int32),
        decision=np.zeros(nodes, np.uint8), threshold=index / 7.0, category_set=np.zeros(nodes, np.int32),
        left=~index, right=np.where(index + 1 < nodes, index + 1, ~np.int32(nodes)).astype(np.int32),
        leaf_value=np.ones(nodes + 1), set_begin=np.zeros(1, np.uint32), set_words=np.zeros(0, np.uint32),
    )  # fmt: skip
    return ForestScorer(forest, ("x",), IDENTITY)


def test_why_a_forest_has_no_tier() -> None:
    told = {fact.tier: fact for fact in facts.tier_facts(big_tree(8191).forest, frozenset({"avx2", "bmi2"}))}
    assert told["walk"].available
    assert "more than 8,190 nodes" in told["bits"].why
    assert "more than 8,190 nodes" in told["avx512"].why
    assert facts.chosen_why(big_tree(8191).forest, 1000) == "rows as bits cannot serve this forest"
    assert facts.forest_facts(big_tree(10)).unexplained.endswith("(covers)")


def test_why_a_processor_has_no_tier(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain:
        def has_tier(self, tier: str) -> bool:
            return tier in ("auto", "scalar", "walk", "bits")

    monkeypatch.setattr(facts.platform, "machine", lambda: "x86_64")
    forest: Any = Plain()
    told = {fact.tier: fact.why for fact in facts.tier_facts(forest, frozenset({"avx2", "avx512f", "avx512bw"}))}
    assert told["avx2"] == "the processor has no bmi2"
    assert told["avx512"] == "the processor has no avx512dq, avx512vl, bmi2"
    assert told["neon"] == "it is for aarch64, this is x86_64"
    told = {fact.tier: fact.why for fact in facts.tier_facts(forest, None)}
    assert told["avx2"] == "the processor lacks one of avx2, bmi2"


def test_features_of_the_processor(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nflags\t\t: fpu avx2\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert facts.processor_features(path) == {"fpu", "avx2"}
    path.write_text("nothing\n")
    assert facts.processor_features(path) is None
    assert facts.processor_features(tmp_path / "none") is None


def test_rows_lie_around_the_thresholds_and_are_always_the_same() -> None:
    scorer = parse_lightgbm(booster("regression").model_to_string())
    matrix = rows_around(scorer)
    assert matrix.shape == (7, BATCHES[-1])
    np.testing.assert_array_equal(matrix, rows_around(scorer))
    assert 0.02 < np.isnan(matrix).mean() < 0.1
    leaves = scorer.forest.leaves(matrix)
    reached = sum(len(np.unique(row)) for row in leaves)
    assert reached > 0.6 * facts.forest_facts(scorer).leaves.sum()


def test_what_would_take_too_long_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rankd.cli.model_timing.BUDGET_S", 0.0)
    scorer = parse_lightgbm(booster("regression").model_to_string())
    found = us_per_row(scorer, rows_around(scorer), ["scalar"])
    assert found["scalar"][1] is not None
    assert found["scalar"][1000] is None


@pytest.mark.parametrize(
    ("data", "arguments", "status", "message"),
    [
        ("hello", (), ExitCode.FAILED, "m: expected a model file; say which format it has if it is one"),
        ("tree\nversion=v9\n\n", (), ExitCode.FAILED, "m:2: expected version v3 or v4, got v9"),
        ('{"weights": {}}', (), ExitCode.FAILED, 'expected "rankd.linear/1", got None'),
        ("hello", ("--format", "xgboost"), ExitCode.FAILED, "m: expected JSON or UBJSON"),
        ("hello", ("--format", "onnx"), ExitCode.USAGE, "expected --format catboost, compiled, lightgbm"),
    ],
)
def test_files_that_are_no_models(
    data: str, arguments: tuple[str, ...], status: int, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "m"
    path.write_text(data)
    for words in (("inspect", path), ("compile", path, "-o", tmp_path / "out")):
        code, out, err = run(*words, *arguments)
        assert (code, out) == (status, "")
        assert message in err
    assert not (tmp_path / "out").exists()


def test_no_file(tmp_path: Path) -> None:
    assert run("inspect", tmp_path / "none")[0] == ExitCode.USAGE


def test_compile(tmp_path: Path) -> None:
    source, target = model_file(tmp_path), tmp_path / "new" / "shop.rkmodel"
    code, out, err = run("compile", source, "-o", target)
    assert code == 0, err
    assert f"shop: {{file: {target}, format: compiled}}" in out
    found, original = inspected(target, "--no-measure"), inspected(source, "--no-measure")
    same = set(found) - {"file", "format", "bytes", "load_ms"}
    assert {key: found[key] for key in same} == {key: original[key] for key in same}
    assert (found["format"], found["family"], found["source"]) == ("compiled", "lightgbm", "shop.txt")
    assert "compiled from shop.txt" in run("inspect", target, "--no-measure")[1]
    scorers = [read_model(source, "lightgbm")[0], read_model(target, "compiled")[0]]
    matrix = rows_around(scorers[0])
    assert scorers[0].score(matrix).tobytes() == scorers[1].score(matrix).tobytes()
    code, out, _ = run("compile", source, "-o", target, "--json")
    assert json.loads(out) == {
        "file": str(target), "bytes": target.stat().st_size, "family": "lightgbm", "version": original["version"],
    }  # fmt: skip


def test_what_is_not_compiled(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(LINEAR)
    code, _, err = run("compile", path, "-o", tmp_path / "out")
    assert (code, "is a linear model: there is nothing to compile" in err) == (ExitCode.USAGE, True)
    run("compile", model_file(tmp_path), "-o", tmp_path / "shop.rkmodel")
    code, _, err = run("compile", tmp_path / "shop.rkmodel", "-o", tmp_path / "out")
    assert (code, "is compiled already" in err) == (ExitCode.USAGE, True)
    assert not (tmp_path / "out").exists()
