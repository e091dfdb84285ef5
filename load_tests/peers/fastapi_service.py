"""The ranking service that a team writes first: FastAPI, rows in Redis, LightGBM's own prediction.

    RANK_MODEL=model.txt RANK_REDIS_PORT=6379 RANK_ROWS=packed uvicorn peers.fastapi_service:app

POST /rank {"ids": [...]} answers {"ids": [...], "scores": [...]}, best first. Nothing is done badly on purpose:
one MGET a request, orjson both ways without models in between, one matrix, one call of the booster, one thread.
RANK_ROWS: "json" (a list of numbers, null is missing) or "packed" (float32).
"""

from __future__ import annotations

import os

import lightgbm
import numpy as np
import orjson
from fastapi import FastAPI, Request, Response
from numpy.typing import NDArray
from redis import asyncio as aioredis

booster = lightgbm.Booster(model_file=os.environ["RANK_MODEL"])
features = booster.num_feature()
redis = aioredis.Redis(port=int(os.environ["RANK_REDIS_PORT"]))
app = FastAPI()
_missing = np.full(features, np.nan, np.float32)


def json_rows(found: list[bytes | None]) -> NDArray[np.float32]:
    """A row per item; what is not stored is missing."""
    matrix = np.empty((len(found), features), np.float32)
    for i, row in enumerate(found):
        matrix[i] = _missing if row is None else orjson.loads(row)
    return matrix


def packed_rows(found: list[bytes | None]) -> NDArray[np.float32]:
    """The same from packed numbers."""
    missing = _missing.tobytes()
    return np.frombuffer(b"".join(missing if row is None else row for row in found), np.float32).reshape(-1, features)


to_rows = {"json": json_rows, "packed": packed_rows}[os.environ["RANK_ROWS"]]


@app.post("/rank")
async def rank(request: Request) -> Response:
    """Orders a list of ids by the model."""
    ids = orjson.loads(await request.body())["ids"]
    matrix = to_rows(await redis.mget([f"item:{id}" for id in ids]))
    scores = booster.predict(matrix, num_threads=1)
    order = np.argsort(-scores, kind="stable")
    answer = {"ids": [ids[i] for i in order], "scores": scores[order].tolist()}
    return Response(orjson.dumps(answer), media_type="application/json")
