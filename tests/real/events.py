"""Real and realistic events as files for `rankd ingest`, and what they come to, counted in plain Python."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

UBI, BANDIT, MOVIES = "clicks_esci_ubi", "clicks_open_bandit", "reco_ml_latest_small"

HOUR_MS = 3_600_000


def ubi_documents(folder: Path) -> Iterator[dict[str, Any]]:
    """The documents of ubi_events, and nothing of how they are read elsewhere."""
    with gzip.open(folder / "ubi_queries_events.ndjson.gz", "rt", encoding="utf-8") as file:
        index = ""
        for line in file:
            document = json.loads(line)
            if set(document) == {"index"}:
                index = document["index"]["_index"]
            elif index == "ubi_events":
                yield document


def ubi_queries(folder: Path) -> dict[str, str]:
    """The text of each query by its id."""
    with gzip.open(folder / "ubi_queries_events.ndjson.gz", "rt", encoding="utf-8") as file:
        documents = [json.loads(line) for line in file]
    return {d["query_id"]: d["user_query"] for d in documents if "index" not in d and not d.get("action_name")}


def time_ms(value: str | int) -> int:
    """Milliseconds since 1970 of an ISO 8601 time, rounded down, or of a number of them."""
    if isinstance(value, int):
        return value
    at = datetime.fromisoformat(value)
    return int(at.timestamp()) * 1000 + at.microsecond // 1000


def bandit_rows(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(name of the log, row) of every log that is there."""
    for file in sorted(folder.glob("*/*/*.csv.gz")):
        if not file.name.startswith("item_context"):
            with gzip.open(file, "rt", encoding="utf-8", newline="") as stream:
                for row in csv.DictReader(stream):
                    yield f"{file.parts[-3]}-{file.parts[-2]}", row


def write_bandit(folder: Path, to: Path) -> int:
    """An impression for each row, and a click where there was one, as JSONL; how many."""
    count = 0
    with to.open("w", encoding="utf-8") as file:
        for log, row in bandit_rows(folder):
            shown = {
                "event_id": f"{log}:{row['']}:i", "type": "impression", "time": row["timestamp"],
                "item_id": f"{log}:{row['item_id']}", "position": int(row["position"]),
                "properties": {"segment": row["user_feature_0"], "propensity": float(row["propensity_score"])},
            }  # fmt: skip
            file.write(json.dumps(shown) + "\n")
            count += 1
            if row["click"] == "1":
                file.write(json.dumps({**shown, "event_id": f"{log}:{row['']}:c", "type": "click"}) + "\n")
                count += 1
    return count


def decayed(amounts: list[tuple[int, float]], half_life_ms: float) -> tuple[float, int]:
    """A decayed counter as of the newest time, straight from its definition."""
    newest = max(at for at, _ in amounts)
    return sum(amount * 2.0 ** ((at - newest) / half_life_ms) for at, amount in amounts), newest


def windows(times_ms: list[int], bucket_ms: int, buckets: int) -> dict[int, float]:
    """Counts by bucket, of the window that ends with the newest."""
    counts = Counter(at // bucket_ms for at in times_ms)
    newest = max(counts)
    return {bucket: float(count) for bucket, count in sorted(counts.items()) if bucket > newest - buckets}
