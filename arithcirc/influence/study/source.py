"""Where documents and queries come from: a corpus folder made here, or any files of JSON lines.

A folder holds `documents.jsonl` and, if it has queries, `queries.jsonl`. A file's identity is the sha256 of its bytes.
"""

from dataclasses import dataclass
from pathlib import Path

from arithcirc.errors import PromptError
from arithcirc.influence.documents import Query, read_queries
from arithcirc.store import sha256_file

DOCUMENTS, QUERIES = "documents.jsonl", "queries.jsonl"


@dataclass(frozen=True)
class Source:
    """The files of documents and queries (None: there are none), and the hash and number of documents."""

    documents: Path
    queries: Path | None
    sha256: str
    n_documents: int


def find_source(corpus: Path, queries: Path | None = None) -> Source:
    """The files that a corpus folder or a file of documents stands for; `queries` replaces the folder's own.

    Raises PromptError where a file is missing, is not text, or holds no document.
    """
    if corpus.is_dir():
        documents = corpus / DOCUMENTS
        own: Path | None = corpus / QUERIES
    else:
        documents, own = corpus, None
    if not documents.is_file():
        raise PromptError(
            f"{documents} is not there: give --corpus a folder made by 'arithcirc influence corpus', "
            'or a file of JSON lines {"text": ...}'
        )
    if queries is not None and not queries.is_file():
        raise PromptError(
            f'--queries {queries} is not there: give a file of JSON lines {{"prompt": ..., "answer": ...}}'
        )
    chosen = queries or (own if own is not None and own.is_file() else None)
    return Source(documents, chosen, sha256_file(documents), _count(documents))


def queries_of(source: Source) -> list[Query]:
    """All queries. Raises PromptError where there is no file, none in it, or two of one name."""
    if source.queries is None:
        raise PromptError(
            f'{source.documents.parent} has no {QUERIES}: give --queries a file of JSON lines {{"prompt": ..., '
            '"answer": ...}'
        )
    found = list(read_queries(source.queries))
    if not found:
        raise PromptError(f"{source.queries} holds no query: write at least one line with a prompt and an answer")
    names = [query.id for query in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PromptError(f"{source.queries}: the id {twice[0]!r} names several queries: ids must differ")
    return found


def _count(documents: Path) -> int:
    """Lines that are not blank."""
    try:
        with documents.open("rb") as file:
            count = sum(1 for line in file if line.strip())
    except OSError as error:
        raise PromptError(f"{documents} cannot be read ({error.strerror}): give a file of JSON lines") from None
    if not count:
        raise PromptError(f"{documents} is empty: a corpus needs at least one document")
    return count
