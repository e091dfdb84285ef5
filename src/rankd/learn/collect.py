"""Judged lists through a running server: feature rows for training, rankings for evaluation.

Why training cannot skew from serving: there is no second way to compute a feature. Rows are the
answer of the same Rank call, with VIEW_FEATURES, that a caller makes; the server decodes the
candidates, reads its store and runs the profile's compiled program, and what comes back is the
float32 matrix that its model would be given, bit for bit. The whole list is sent, unjudged
candidates too, so that listwise features (ranks, z-scores) see what they will see in service.

What can still differ is time: signals as they are now stand in for signals as they were when the
list was shown. `as_of` moves ages back, not the signals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankd.client import Client, RankedList
from rankd.client.requests import SurfaceName, ViewName
from rankd.errors import ConfigError
from rankd.learn.judgments import JudgedList
from rankd.learn.training import MAX_GRADE, Progress, TrainingRows


@dataclass(frozen=True)
class Collected:
    """Training rows, and how much of what was sent the store knows nothing about."""

    rows: TrainingRows
    candidate_count: int
    unknown_count: int


def rank_list(
    client: Client,
    profile: str,
    judged: JudgedList,
    view: ViewName,
    surface: SurfaceName | None = None,
    timings: bool = False,
) -> RankedList:
    """One judged list as a Rank call; the answer has all its candidates."""
    return client.rank(
        profile,
        judged.ids,
        base_scores=judged.base_scores,
        columns=judged.columns,
        query=judged.query or None,
        user=judged.user or None,
        context=judged.context,
        surface=surface,
        as_of=None if judged.as_of_s is None else round(judged.as_of_s * 1000),
        view=view,
        timings=timings,
    )


def collect_rows(
    client: Client,
    profile: str,
    lists: Sequence[JudgedList],
    progress: Progress | None = None,
    surface: SurfaceName | None = None,
) -> Collected:
    """The judged candidates of all lists with the profile's features. ConfigError if they cannot be trained on."""
    matrices, grades, sizes, keys, positions = [], [], [], [], []
    names: tuple[str, ...] = ()
    versions: set[str] = set()
    candidates = unknown = 0
    for number, (judged, wanted) in enumerate(_gradable(lists)):
        answer = rank_list(client, profile, judged, "features", surface)
        versions.add(answer.versions.profile)
        if len(versions) > 1:
            raise ConfigError(
                f"the profile changed while rows were collected: {' and '.join(sorted(versions))}", profile
            )
        names = tuple(answer.features)
        matrices.append(sent_order(answer)[wanted])
        grades.append(judged.grades[wanted].astype(np.int64))
        sizes.append(len(wanted))
        keys.append(judged.query or judged.key)
        positions.append(None if judged.positions is None else judged.positions[wanted])
        candidates += len(judged.ids)
        unknown += len(answer.missing_ids)
        if progress is not None:
            progress(number + 1, len(lists))
    if not matrices:
        raise ConfigError("expected at least one graded candidate, got none", "judgments")
    known = [given for given in positions if given is not None]
    rows = TrainingRows(
        names,
        np.concatenate(matrices),
        np.concatenate(grades),
        np.array(sizes, np.int64),
        tuple(keys),
        np.concatenate(known) if len(known) == len(positions) else None,
        versions.pop(),
    )
    return Collected(rows, candidates, unknown)


def sent_order(answer: RankedList) -> NDArray[np.float32]:
    """The features of an answer as a matrix (candidates, features), in the order the candidates were sent."""
    matrix = np.empty((len(answer.ids), len(answer.features)), np.float32)
    for position, values in enumerate(answer.features.values()):
        matrix[answer.indexes, position] = values
    return matrix


def _gradable(lists: Sequence[JudgedList]) -> Iterator[tuple[JudgedList, NDArray[np.intp]]]:
    """Lists with the positions of their graded candidates; those without any are left out."""
    for judged in lists:
        wanted = np.flatnonzero(~np.isnan(judged.grades))
        graded = judged.grades[wanted]
        if len(graded) and (np.any(graded != np.floor(graded)) or graded.max() > MAX_GRADE):
            raise ConfigError(f"LambdaMART needs whole grades from 0 to {MAX_GRADE}", f'query "{judged.query}"')
        if len(wanted):
            yield judged, wanted
