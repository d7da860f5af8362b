"""Scores that know nothing of gradients: the words that query and document share (BM25), and chance.

BM25 (Robertson and Zaragoza 2009), in the variant of Lucene:

    sum over words w of the query    log(1 + (N - n_w + .5) / (n_w + .5)) x f / (f + k1 (1 - b + b |d| / mean |d|))

with f the count of w in d, n_w the documents that have w, |d| the words of d, k1 = 1.5, b = 0.75. Only words of the
queries are counted, so the statistics of a corpus of any size are a few hundred numbers and its texts stream by.
Words are runs of letters, digits and underscores in lower case: single digits are words, nothing is stemmed.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

K1, B = 1.5, 0.75
_WORD = re.compile(r"\w+")
_WORDS_PER_DRAW = 4
"""Philox makes four numbers at a time."""


def words(text: str) -> list[str]:
    """The words of a text."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True)
class WordCounts:
    """Of a corpus: documents, their mean number of words, and in how many each word of the queries occurs."""

    documents: int
    mean_words: float
    having: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"documents": self.documents, "mean_words": self.mean_words, "having": self.having}


def count_words(texts: Iterable[str], queries: Sequence[str]) -> WordCounts:
    """Pass once over the texts, counting the queries' words."""
    wanted = {word for query in queries for word in words(query)}
    having: Counter[str] = Counter()
    n_documents = n_words = 0
    for text in texts:
        found = words(text)
        having.update(wanted.intersection(found))
        n_documents, n_words = n_documents + 1, n_words + len(found)
    return WordCounts(n_documents, n_words / max(n_documents, 1), dict(sorted(having.items())))


def bm25(queries: Sequence[str], texts: Sequence[str], counts: WordCounts) -> Float[np.ndarray, "query document"]:
    """BM25 of every query with every text; a word that a query repeats counts as often."""
    index = {word: i for i, word in enumerate(counts.having)}
    frequency = np.zeros((len(index), len(texts)))
    lengths = np.zeros(len(texts))
    for j, text in enumerate(texts):
        found = Counter(words(text))
        lengths[j] = sum(found.values())
        for word in found.keys() & index.keys():
            frequency[index[word], j] = found[word]
    share = 1 - B + B * lengths / max(counts.mean_words, 1e-9)
    saturated = frequency / (frequency + K1 * share)
    weights = np.zeros((len(queries), len(index)))
    for i, query in enumerate(queries):
        for word in words(query):
            if word in index:
                n = counts.having[word]
                weights[i, index[word]] += math.log(1 + (counts.documents - n + 0.5) / (n + 0.5))
    return (weights @ saturated).astype(np.float32)


def noise(seed: int, n_queries: int, start: int, end: int) -> Float[np.ndarray, "query document"]:
    """Uniform numbers, each a function of seed, query and document alone, however documents are partitioned."""
    blocks = -(-n_queries // _WORDS_PER_DRAW)
    source = np.random.Philox(key=seed)
    source.advance(start * blocks)
    drawn = np.random.Generator(source).random((end - start, blocks * _WORDS_PER_DRAW))
    return drawn[:, :n_queries].T.astype(np.float32)
