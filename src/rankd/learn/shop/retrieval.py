"""BM25 over titles: stands in for the search engine that a shop has in front of rankd."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rankd.types.text import normalise


class Bm25:
    """Robertson and Zaragoza, The Probabilistic Relevance Framework (2009); idf as in Lucene."""

    def __init__(self, texts: Sequence[str], k1: float = 1.2, b: float = 0.75) -> None:
        documents = [Counter(normalise(text).split()) for text in texts]
        lengths = np.array([sum(document.values()) for document in documents], np.float64)
        scale = k1 * (1 - b + b * lengths / lengths.mean())
        postings: dict[bytes, tuple[list[int], list[float]]] = {}
        for number, document in enumerate(documents):
            for word, count in document.items():
                numbers, weights = postings.setdefault(word, ([], []))
                numbers.append(number)
                weights.append(count / (count + scale[number]))
        self._size = len(texts)
        self._postings = {
            word: (np.array(numbers), np.array(weights) * self._idf(len(numbers)))
            for word, (numbers, weights) in postings.items()
        }

    def _idf(self, document_count: int) -> float:
        return float(np.log1p((self._size - document_count + 0.5) / (document_count + 0.5)))

    def search(self, query: str, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Numbers and scores of the best `count` documents that hold a word of the query, best first."""
        scores = np.zeros(self._size)
        for word in dict.fromkeys(normalise(query).split()):
            if word in self._postings:
                numbers, weights = self._postings[word]
                scores[numbers] += weights
        order = np.argsort(-scores, kind="stable")[:count]
        order = order[scores[order] > 0]
        return order.astype(np.int64), scores[order]
