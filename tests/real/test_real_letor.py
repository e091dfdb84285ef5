"""Real learning-to-rank data through the service, in short; `make real` runs it in full."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from real import data, letor


def test_scores_and_ndcg_are_lightgbms_own(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm", reason="LightGBM (the extra `train`) is not installed")
    folder = data.folder(data.LETOR)
    if folder is None:
        pytest.skip(f"real data {data.LETOR} is absent (RANKD_DATA, default ../shared/data)")
    outcome = letor.run(folder, tmp_path, replace(letor.SETTINGS, trees=20), queries=12)
    assert outcome.row_count > 100
    assert outcome.unequal_scores == 0
    assert outcome.ndcg_rankd == outcome.ndcg_lightgbm
    assert outcome.ndcg_rankd > outcome.ndcg_input_order
