"""The real catalogue through the service, in short; `make real` runs it in full."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from real import data, icecat


def test_families_join_queries_that_share_products() -> None:
    judgments = {
        "laptop": {"1": 1.0, "2": 0.0, "3": 0.0},
        "laptops": {"1": 1.0, "2": 0.0},
        "phone": {"9": 1.0, "3": 0.0, "8": 0.0, "7": 0.0},
        "gaming laptop": {"2": 0.0, "5": 1.0},
    }
    families = data.query_families(judgments, share=0.5)
    assert families["laptop"] == families["laptops"] == families["gaming laptop"]
    assert families["phone"] != families["laptop"]


def test_a_few_queries_against_the_whole_catalogue(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm", reason="LightGBM (the extra `train`) is not installed")
    folder = data.folder(data.ICECAT)
    if folder is None:
        pytest.skip(f"real data {data.ICECAT} is absent (RANKD_DATA, default ../shared/data)")
    told: list[str] = []
    outcome = icecat.run(folder, tmp_path, told.append, replace(icecat.SETTINGS, trees=20), queries=25)
    assert outcome.item_count == 19_406
    assert outcome.list_count == 25
    assert outcome.candidate_count >= 25 * icecat.RETRIEVED
    document = outcome.document()
    # Any sensible order of these judged candidates is well above a random one (0.595 over all queries).
    assert document["ndcg_bm25"] > 0.7
    assert document["ndcg_base"] > 0.65
    assert document["ndcg_model"] > 0.6
    assert document["ci95"][0] < document["ndcg_model"] < document["ci95"][1]
    # To count unjudged products as bad can only lower what is measured.
    known = ~np.isnan(outcome.judged.bm25)
    assert np.all(outcome.zero.bm25[known] <= outcome.judged.bm25[known] + 1e-12)
    assert any("families" in line for line in told)
