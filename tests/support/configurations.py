"""Workspaces of which each version shows in every score: version n scores n by the profile and n by the model."""

from __future__ import annotations

import json
from pathlib import Path

from rankd.server.configuration import Configuration, load_configuration
from rankd.signals.categories import ScratchCategories
from rankd.workspace import load_workspace

HEAD = """
version: 1
schema:
  item: {price: f32, brand: category}
server:
  listen: 127.0.0.1:0
  health_listen: 127.0.0.1:0
  data_dir: null
  drain_seconds: 0
  reload: {interval_seconds: 0.05}
"""


def replace(path: Path, data: str | bytes) -> None:
    """Writes aside and renames over, as an operator should."""
    aside = path.with_name(f".{path.name}.new")
    aside.write_bytes(data.encode() if isinstance(data, str) else data)
    aside.rename(path)


def model_text(version: int) -> str:
    """A linear model whose scores are 1000 n of the profile's version plus its own."""
    return json.dumps({"format": "rankd.linear/1", "weights": {"n": 1000.0}, "intercept": float(version)})


def workspace_text(version: int, more: str = "", head: str = HEAD) -> str:
    """Profiles `search` (with the model) and `plain` (without)."""
    return f"""{head}
models:
  shop: {{file: shop.json}}
profiles:
  search:
    features: {{n: {version}, "is_x": "item.brand == 'x{version}'"}}
    model: shop
  plain:
    features: {{n: {version}}}
    base: n
{more}
"""


def write_version(directory: Path, version: int, model: int | None = None) -> None:
    """Version n of the profiles, and n (or `model`) of the model."""
    replace(directory / "shop.json", model_text(version if model is None else model))
    replace(directory / "rankd.yaml", workspace_text(version))


def score_of(version: int) -> float:
    """What every candidate scores in `search`."""
    return 1001.0 * version


def configuration(directory: Path) -> Configuration:
    """The workspace in `directory`, loaded."""
    return load_configuration(load_workspace(directory, {}), ScratchCategories())
