"""A corpus whose truth is known: which documents state a fact, work a procedure, or only look as if they did."""

from arithcirc.influence.corpus.folder import CorpusFolder
from arithcirc.influence.corpus.generate import make_corpus
from arithcirc.influence.corpus.spec import CorpusSpec

__all__ = ["CorpusFolder", "CorpusSpec", "make_corpus"]
