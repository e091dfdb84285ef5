"""Transformed scores, names and refusals with CatBoost itself; leaves and raw scores are test_exactness.py's."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.catboost_boosters import CATBOOST, borders, catboost_model
from support.edge_rows import edge_rows

from rankd.errors import ModelFileError
from rankd.models import ForestScorer, load_model, parse_catboost
from rankd.types.profile import ModelSpec

catboost = pytest.importorskip("catboost", reason="catboost is not installed")

PREDICTION = {"sigmoid": "Probability", "softmax": "Probability", "exp": "Exponent", "identity": "RawFormulaVal"}


@pytest.mark.parametrize("name", sorted(CATBOOST))
def test_scores_are_what_predict_gives(name: str) -> None:
    model, data, _ = catboost_model(name)
    scorer = parse_catboost(data)
    features, thresholds = borders(data)
    rows = edge_rows(400, features, thresholds, {}, 3)
    found = scorer.score(np.ascontiguousarray(rows.T))
    expected = model.predict(rows, prediction_type=PREDICTION[scorer.transform.name], thread_count=1)
    expected = expected.reshape(len(rows), -1).T
    if scorer.transform.name == "sigmoid" and len(found) == 1:
        expected = expected[1:]
    if scorer.transform.name in ("sigmoid", "identity"):
        assert np.array_equal(found, expected)
    else:  # CatBoost has an exponential of its own there
        assert np.allclose(found, expected, rtol=2e-15, atol=0)


@pytest.mark.parametrize("name", ["nan_max", "lossguide_nan_max"])
@pytest.mark.parametrize("treatment", ["AsIs", "AsFalse", "AsTrue"])
@pytest.mark.parametrize("has_nans", [True, False])
def test_missing_values_take_catboost_s_way(name: str, treatment: str, has_nans: bool, tmp_path: Path) -> None:
    """Also where the file says what training does not write, such as AsTrue of a feature without NaN."""
    document = json.loads(catboost_model(name)[1])
    for feature in document["features_info"]["float_features"]:
        feature |= {"has_nans": has_nans, "nan_value_treatment": treatment}
    path = tmp_path / "m.json"
    path.write_text(json.dumps(document))
    reread = catboost.CatBoost()
    reread.load_model(str(path), format="json")
    features, thresholds = borders(path.read_bytes())
    rows = edge_rows(500, features, thresholds, {}, 1)
    rows[::3, 0] = np.nan
    found = parse_catboost(path.read_bytes()).forest.leaves(np.ascontiguousarray(rows.T))
    assert np.array_equal(found, reread.calc_leaf_indexes(rows).T)


def test_every_transform_is_among_the_models() -> None:
    assert {parse_catboost(catboost_model(name)[1]).transform.name for name in CATBOOST} == set(PREDICTION)


def test_estimators_predict_the_same() -> None:
    """What a loss function does to raw values is what CatBoost's estimators do without being told."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, 4)).astype(np.float32)
    y = np.exp(x[:, 0] + x[:, 1])
    options: dict[str, Any] = {"iterations": 10, "verbose": 0, "thread_count": 1, "allow_writing_files": False}
    for loss in ("RMSE", "Poisson", "Tweedie:variance_power=1.5", "MAE", "LogLinQuantile"):
        model = catboost.CatBoostRegressor(loss_function=loss, **options).fit(x, y)
        assert np.allclose(scorer_of(model).score(x.T.copy())[0], model.predict(x), rtol=1e-14, atol=0), loss
    for labels in (y > 1, np.digitize(y, [0.5, 2])):
        classifier = catboost.CatBoostClassifier(**options).fit(x, labels)
        found = scorer_of(classifier).score(x.T.copy())
        assert np.allclose(found, classifier.predict_proba(x).T[-len(found) :], rtol=1e-14, atol=0)


def scorer_of(model: Any) -> ForestScorer:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.json"
        model.save_model(str(path), format="json")
        return parse_catboost(path.read_bytes(), "m.json")


def test_names_come_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_bytes(catboost_model("named")[1])
    model = load_model(ModelSpec("ctr", str(path), "catboost"))
    assert model.scorer.feature_names == tuple(f"signal_{i}" for i in range(6))
    path.write_bytes(catboost_model("rmse")[1])
    assert load_model(ModelSpec("ctr", str(path), "catboost")).scorer.feature_names == tuple("012345")
    assert load_model(ModelSpec("ctr", str(path), "catboost", tuple("abcdef"))).scorer.feature_names == tuple("abcdef")


@pytest.mark.parametrize(
    ("pool", "options", "message"),
    [
        ({"cat_features": [2]}, {}, "m.json:features_info.categorical_features: categorical features (one-hot, CTR)"),
        ({"cat_features": [2]}, {"one_hot_max_size": 9}, "m.json:features_info.categorical_features: categorical"),
        ({}, {"loss_function": "RMSEWithUncertainty"}, "'RMSEWithUncertainty' is not supported"),
        ({}, {"loss_function": "MultiClass", "classes_count": 7}, "expected an output for each of 7 classes"),
    ],
)
def test_what_is_not_supported_is_refused(pool: dict[str, Any], options: dict[str, Any], message: str) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, 3)).round(1).astype(object)
    y = np.arange(300) * 7 % 5
    x[:, 2] = [("shoe", "hat", "tie")[i % 3] for i in range(300)] if pool else x[:, 2]
    options = {"iterations": 5, "verbose": 0, "thread_count": 1, "allow_writing_files": False, **options}
    model = catboost.CatBoost(options).fit(catboost.Pool(x, y, **pool))
    with pytest.raises(ModelFileError) as caught:
        scorer_of(model)
    assert message in str(caught.value)
