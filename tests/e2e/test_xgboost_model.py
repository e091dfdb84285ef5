"""XGBoost's files from rankd.yaml to answers over the wire, by a server that never imports it."""

from __future__ import annotations

from pathlib import Path

import grpc
import numpy as np
import pytest
from support.serving import ServerProcess
from support.xgboost_boosters import FEATURES, margins, model_bytes, nasty_rows, predictions

from rankd.v1 import ranking_pb2 as pb
from rankd.v1.ranking_pb2_grpc import RankingServiceStub

MODELS = {"binary": ("binary:logistic", "json"), "classes": ("softprob", "ubj"), "linear": ("linear_binary", "json")}
PROFILE = """
  {profile}:
    columns: [{columns}]
    features: {{{features}}}
    model: {profile}"""


@pytest.fixture
def server(tmp_path: Path) -> ServerProcess:
    columns = ", ".join(f"c{i}" for i in range(FEATURES))
    features = ", ".join(f"x{i}: column.c{i}" for i in range(FEATURES))
    inputs = ", ".join(f"x{i}" for i in range(FEATURES))
    lines = ["version: 1", "schema: {item: {price: f32}}", "models:"]
    for profile, (name, kind) in MODELS.items():
        (tmp_path / f"{profile}.{kind}").write_bytes(model_bytes(name, kind))
        lines.append(f"  {profile}: {{file: {profile}.{kind}, format: xgboost, features: [{inputs}]}}")
    profiles = [PROFILE.format(profile=profile, columns=columns, features=features) for profile in MODELS]
    settings = "{listen: '127.0.0.1:0', health_listen: '127.0.0.1:0', data_dir: null}"
    text = "\n".join(lines) + "\nprofiles:" + "".join(profiles) + f"\nserver: {settings}\n"
    (tmp_path / "rankd.yaml").write_text(text)
    return ServerProcess(tmp_path)


def test_scores_over_the_wire_are_xgboosts(server: ServerProcess) -> None:
    with server.wait_ready(), grpc.insecure_channel(server.address) as channel:
        stub = RankingServiceStub(channel)
        for profile, (name, _) in MODELS.items():
            rows = np.clip(nasty_rows(name, 100, 9), -1e6, 1e6)
            columns = [pb.Column(name=f"c{i}", values=rows[:, i]) for i in range(FEATURES)]
            candidates = pb.Candidates(ids=[str(i) for i in range(len(rows))], columns=columns)
            for raw in (True, False):
                request = pb.ScoreRequest(profile=profile, candidates=candidates, raw=raw)
                found = np.array([output.values for output in stub.Score(request, timeout=20).outputs])
                if raw:
                    assert np.array_equal(found, margins(name, rows).astype(np.float64))
                else:
                    np.testing.assert_allclose(found, predictions(name, rows), rtol=1e-6, atol=1e-30)
