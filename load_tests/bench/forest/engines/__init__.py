"""The engines rankd is measured against, a file each."""

from bench.forest.engines.catboost_python import CatBoost
from bench.forest.engines.lightgbm_c import LightGbm
from bench.forest.engines.lleaves_c import Lleaves
from bench.forest.engines.onnxruntime_c import OnnxRuntime
from bench.forest.engines.peer import Job, Peer
from bench.forest.engines.tl2cgen_c import Tl2cgen
from bench.forest.engines.xgboost_c import XgBoost

PEERS: tuple[type[Peer], ...] = (Lleaves, LightGbm, Tl2cgen, XgBoost, CatBoost, OnnxRuntime)

__all__ = ["PEERS", "Job", "Peer"]
