"""Judgment files: which documents are good answers to which query, and what was shown with them.

Three forms, told apart by the file's suffix:

- `.csv` (with a header) and `.jsonl` (one object a line) with the fields

      query        text; may be empty (browse, recommendation)
      id           the candidate (also: docid, doc_id)
      grade        0 or more, 0 is not relevant (also: rating, relevance). Empty or null: shown, not judged:
                   it is sent as a candidate, so that listwise features see the list that was ranked
      user         optional user id
      list         optional key of the list; default: query and user together make one
      base_score   optional, higher is better; NaN or empty is missing
      position     optional, where it was shown, 1 is the top: lets training allow for position bias
      as_of        optional time of the list, ISO 8601 or Unix seconds: ages are computed against it
      column.NAME  optional request columns, numbers
      context.NAME optional context features of the list: a number or a text

- anything else: TREC qrels, `topic iteration id grade` between blanks or tabs. A topic is the query's text,
  unless `topics` (lines of `topic<TAB>text`) says otherwise.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rankd.errors import ConfigError

_ALIASES = {"docid": "id", "doc_id": "id", "rating": "grade", "relevance": "grade"}
_FIELDS = ("query", "id", "grade", "user", "list", "base_score", "position", "as_of")
_NAN = float("nan")


@dataclass(frozen=True)
class JudgedList:
    """One list: a query of a user with its candidates in the order of the file.

    `grades` float64 (n,), NaN where nobody judged. `base_scores` float64 (n,) or None. `positions`
    int64 (n,), 1 is the top, or None. `columns`: float32 (n,) by name, NaN is missing. `as_of_s`:
    seconds since 1970, None: now.
    """

    key: str
    query: str
    user: str
    ids: tuple[str, ...]
    grades: NDArray[np.float64]
    base_scores: NDArray[np.float64] | None = None
    positions: NDArray[np.int64] | None = None
    as_of_s: float | None = None
    columns: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    context: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(slots=True)
class _Row:
    """One line, read and checked. `where` is file:line."""

    where: str
    values: dict[str, str | float]


def read_judgments(path: Path, topics: Path | None = None) -> list[JudgedList]:
    """All lists of a file, in the order in which they first appear. ConfigError names file and line."""
    try:
        if path.suffix == ".csv":
            rows = list(_csv_rows(path))
        elif path.suffix in (".jsonl", ".ndjson"):
            rows = list(_jsonl_rows(path))
        else:
            rows = list(_qrels_rows(path, _read_topics(topics) if topics else None))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the judgments: {error}", str(path)) from error
    if not rows:
        raise ConfigError("expected at least one judgment, got none", str(path))
    return _group(rows)


def write_judgments(path: Path, lists: Iterable[JudgedList]) -> int:
    """Writes lists as JSONL that `read_judgments` gives back; returns the number of rows."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for judged in lists:
            for index, identifier in enumerate(judged.ids):
                grade = judged.grades[index]
                row: dict[str, object] = {"list": judged.key, "query": judged.query, "id": identifier}
                row["grade"] = None if math.isnan(grade) else float(grade)
                if judged.user:
                    row["user"] = judged.user
                if judged.as_of_s is not None:
                    row["as_of"] = judged.as_of_s
                if judged.base_scores is not None and not math.isnan(judged.base_scores[index]):
                    row["base_score"] = float(judged.base_scores[index])
                if judged.positions is not None:
                    row["position"] = int(judged.positions[index])
                row |= {f"column.{name}": _or_none(float(values[index])) for name, values in judged.columns.items()}
                row |= {f"context.{name}": value for name, value in judged.context.items()}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
    return count


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _csv_rows(path: Path) -> Iterator[_Row]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        header = next(reader, None)
        if header is None:
            raise ConfigError("expected a header with query, id and grade, got an empty file", str(path))
        names = _checked_names(header, f"{path}:1")
        for values in reader:
            where = f"{path}:{reader.line_num}"
            if not values:
                continue
            if len(values) != len(names):
                raise ConfigError(f"expected {len(names)} values as in the header, got {len(values)}", where)
            yield _Row(where, {n: v for n, v in zip(names, values, strict=True) if v != "" or n == "query"})


def _jsonl_rows(path: Path) -> Iterator[_Row]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                document = json.loads(line)
            except json.JSONDecodeError as error:
                raise ConfigError(f"expected a JSON object, got text that is not JSON: {error.msg}", where) from error
            if not isinstance(document, dict):
                raise ConfigError(f"expected a JSON object, got {type(document).__name__}", where)
            for name, value in document.items():
                if isinstance(value, bool) or not isinstance(value, (str, int, float, type(None))):
                    raise ConfigError(f"{name}: expected a text or a number, got {json.dumps(value)}", where)
            names = _checked_names(list(document), where)
            pairs = zip(names, document.values(), strict=True)
            yield _Row(where, {name: value for name, value in pairs if value is not None})


def _qrels_rows(path: Path, topics: Mapping[str, str] | None) -> Iterator[_Row]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            fields = line.rstrip("\r\n").split("\t") if "\t" in line else line.split()
            if len(fields) != 4:
                raise ConfigError(f"expected topic, iteration, id and grade, got {len(fields)} fields", where)
            topic, _, identifier, grade = fields
            if topics is not None and topic not in topics:
                raise ConfigError(f'expected a topic of the topics file, got "{topic}"', where)
            query = topics[topic] if topics is not None else topic
            yield _Row(where, {"list": topic, "query": query, "id": identifier, "grade": grade})


def _read_topics(path: Path) -> dict[str, str]:
    topics = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            topic, tab, text = line.partition("\t")
            if not tab:
                raise ConfigError("expected a topic, a tab and the query's text", f"{path}:{number}")
            topics[topic] = text
    return topics


def _checked_names(header: Sequence[str], where: str) -> list[str]:
    names = [_ALIASES.get(name.strip(), name.strip()) for name in header]
    for name in names:
        if name not in _FIELDS and not name.startswith(("column.", "context.")):
            raise ConfigError(f'expected {", ".join(_FIELDS)}, column.NAME or context.NAME, got "{name}"', where)
        if names.count(name) > 1:
            raise ConfigError(f'expected distinct fields, got "{name}" twice', where)
    if "id" not in names:
        raise ConfigError("expected a field id, got none", where)
    return names


def _group(rows: Sequence[_Row]) -> list[JudgedList]:
    groups: dict[tuple[str, ...], list[_Row]] = {}
    for row in rows:
        query, user = str(row.values.get("query", "")), str(row.values.get("user", ""))
        key = (str(row.values["list"]),) if "list" in row.values else (query, user)
        groups.setdefault(key, []).append(row)
    return [_make_list(key, group) for key, group in groups.items()]


def _make_list(key: tuple[str, ...], rows: Sequence[_Row]) -> JudgedList:
    ids = [str(row.values.get("id", "")) for row in rows]
    seen: dict[str, str] = {}
    for identifier, row in zip(ids, rows, strict=True):
        if not identifier:
            raise ConfigError("expected an id, got an empty one", row.where)
        if identifier in seen:
            raise ConfigError(
                f'expected distinct ids in a list, got "{identifier}", which is also at {seen[identifier]}', row.where
            )
        seen[identifier] = row.where
    names = {name for row in rows for name in row.values}
    times = [_time(row) for row in rows]
    _same("as_of", times, rows)
    for name in ("query", "user"):
        _same(name, [str(row.values.get(name, "")) for row in rows], rows)
    context = {name: [_number_or_text(row, name) for row in rows] for name in sorted(names) if name[:8] == "context."}
    for name, values in context.items():
        _same(name, values, rows)
    return JudgedList(
        key="\t".join(part for part in key if part),
        query=str(rows[0].values.get("query", "")),
        user=str(rows[0].values.get("user", "")),
        ids=tuple(ids),
        grades=np.array([_grade(row) for row in rows], np.float64),
        base_scores=np.array([_number(row, "base_score") for row in rows]) if "base_score" in names else None,
        positions=np.array([_position(row) for row in rows], np.int64) if "position" in names else None,
        as_of_s=times[0],
        columns={
            name[7:]: np.array([_number(row, name) for row in rows], np.float32)
            for name in sorted(names)
            if name.startswith("column.")
        },
        context={name[8:]: value for name, (value, *_) in context.items() if value is not None},
    )


def _same(name: str, values: Sequence[object], rows: Sequence[_Row]) -> None:
    for value, row in zip(values, rows, strict=True):
        if value != values[0]:
            raise ConfigError(
                f"{name}: expected one value for the whole list, got {value!r} after {values[0]!r}", row.where
            )


def _grade(row: _Row) -> float:
    grade = _number(row, "grade")
    if grade < 0:
        raise ConfigError(f"grade: expected 0 or more, got {grade:g}", row.where)
    return grade


def _position(row: _Row) -> int:
    position = _number(row, "position")
    if not (position >= 1 and position == int(position)):
        raise ConfigError(f"position: expected a whole number from 1 on, got {row.values.get('position')!r}", row.where)
    return int(position)


def _number(row: _Row, name: str) -> float:
    value = row.values.get(name)
    if value is None:
        return _NAN
    try:
        number = float(value)
    except ValueError:
        raise ConfigError(f'{name}: expected a number, got "{value}"', row.where) from None
    if math.isinf(number):
        raise ConfigError(f"{name}: expected a finite number or NaN, got {value}", row.where)
    return number


def _number_or_text(row: _Row, name: str) -> float | str | None:
    value = row.values.get(name)
    if value is None or isinstance(value, float):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _time(row: _Row) -> float | None:
    value = row.values.get("as_of")
    if value is None:
        return None
    try:
        return float(value)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise ConfigError(f'as_of: expected ISO 8601 or Unix seconds, got "{value}"', row.where) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
