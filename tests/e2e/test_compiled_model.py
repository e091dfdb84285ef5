"""A server with a compiled model in its workspace gives the scores and the version of the model's source."""

from __future__ import annotations

from pathlib import Path

import grpc
import numpy as np
import pytest
from click.testing import CliRunner
from support.boosters import booster, nasty_rows
from support.serving import ServerProcess

from rankd.cli.main import cli
from rankd.models import parse_lightgbm
from rankd.v1 import ranking_pb2 as pb
from rankd.v1.ranking_pb2_grpc import RankingServiceStub

WORKSPACE = """
version: 1
schema:
  item: {price: f32}
models:
  shop: {file: MODEL, features: [a, b, c, d, e, f, g]}
profiles:
  search:
    columns: [a, b, c, d, e, f, g]
    features: {a: column.a, b: column.b, c: column.c, d: column.d, e: column.e, f: column.f, g: column.g}
    base: a
    model: shop
server:
  listen: 127.0.0.1:0
  health_listen: 127.0.0.1:0
  data_dir: null
  drain_seconds: 0.0
"""
ROWS = 300


def score(directory: Path, rows: np.ndarray) -> tuple[bytes, str]:
    """The server's scores, and its model's version."""
    columns = [pb.Column(name=name, values=rows[:, i].tolist()) for i, name in enumerate("abcdefg")]
    candidates = pb.Candidates(ids=[f"i{r}" for r in range(len(rows))], columns=columns)
    with ServerProcess(directory).wait_ready() as server, grpc.insecure_channel(server.address) as channel:
        request = pb.ScoreRequest(profile="search", candidates=candidates)
        answer = RankingServiceStub(channel).Score(request, timeout=10)
        assert server.stop() == 0
    return np.array(answer.outputs[0].values).tobytes(), answer.versions.model


def test_served_as_its_source(tmp_path: Path) -> None:
    model = booster("binary_sigmoid")
    (tmp_path / "shop.txt").write_text(model.model_to_string())
    arguments = ["model", "compile", str(tmp_path / "shop.txt"), "-o", str(tmp_path / "shop.rkmodel")]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    rows = nasty_rows(model, ROWS)
    rows[np.isinf(rows)] = 0.0
    answers = []
    for name in ("shop.txt", "shop.rkmodel"):
        (tmp_path / "rankd.yaml").write_text(WORKSPACE.replace("MODEL", name))
        answers.append(score(tmp_path, rows))
    expected = parse_lightgbm(model.model_to_string()).score(np.ascontiguousarray(rows.T))[0]
    assert answers[0] == answers[1]
    assert answers[0][0] == expected.tobytes()
    assert answers[0][1].startswith("shop@")


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_file_keeps_the_server_from_starting(damage: str, tmp_path: Path) -> None:
    (tmp_path / "shop.txt").write_text(booster("small").model_to_string())
    path = tmp_path / "shop.rkmodel"
    CliRunner().invoke(cli, ["model", "compile", str(tmp_path / "shop.txt"), "-o", str(path)])
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(bytes(data) if damage == "changed" else bytes(data[:-1]))
    (tmp_path / "rankd.yaml").write_text(WORKSPACE.replace("MODEL", path.name))
    found = CliRunner().invoke(cli, ["check", str(tmp_path)])
    assert found.exit_code == 1
    assert "compile it again with `rankd model compile`" in found.stderr
    with ServerProcess(tmp_path) as server:
        assert server.wait() == 1
    assert "compile it again with `rankd model compile`" in "".join(server.log)
