"""A corpus on disk: documents.jsonl, queries.jsonl, corpus.json, tokenizer/."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from arithcirc.errors import RequestError, RunConflictError
from arithcirc.influence.corpus.spec import CorpusSpec
from arithcirc.influence.documents import Document, Query, read_documents, read_queries
from arithcirc.store import sha256_file

CORPUS, DOCUMENTS, QUERIES, TOKENIZER = "corpus.json", "documents.jsonl", "queries.jsonl", "tokenizer"
SCHEMA = 1


@dataclass(frozen=True)
class CorpusFolder:
    """A finished corpus. `facts` is what corpus.json says: counts, hashes, vocabulary, facts."""

    path: Path
    spec: CorpusSpec
    facts: dict[str, Any]

    @classmethod
    def open(cls, path: Path | str) -> "CorpusFolder":
        """Open a folder. Raises RunConflictError when it is no corpus, unfinished or damaged."""
        path = Path(path)
        file = path / CORPUS
        if not file.is_file():
            raise RunConflictError(f"{path} is not a corpus (no {CORPUS}): make one with 'arithcirc influence corpus'")
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            schema, spec = data["schema"], CorpusSpec.from_json(data["spec"])
        except (OSError, ValueError, KeyError, TypeError, RequestError) as error:
            raise RunConflictError(f"{file} is damaged ({error}): delete {path} and make the corpus again") from None
        if schema != SCHEMA:
            raise RunConflictError(f"{file} has schema {schema}, this version reads {SCHEMA}: make the corpus again")
        missing = [n for n in (DOCUMENTS, QUERIES, f"{TOKENIZER}/tokenizer.json") if not (path / n).is_file()]
        if missing:
            raise RunConflictError(f"{path} lacks {', '.join(missing)}: make the corpus again")
        return cls(path, spec, data)

    @property
    def documents_path(self) -> Path:
        """The documents, JSON lines."""
        return self.path / DOCUMENTS

    @property
    def queries_path(self) -> Path:
        """The queries, JSON lines."""
        return self.path / QUERIES

    @property
    def tokenizer_path(self) -> Path:
        """Folder of the tokenizer, for `AutoTokenizer.from_pretrained`."""
        return self.path / TOKENIZER

    @property
    def sha256(self) -> str:
        """Hash of documents.jsonl, as recorded when it was made."""
        return str(self.facts["sha256"][DOCUMENTS])

    @cached_property
    def queries(self) -> tuple[Query, ...]:
        """All queries."""
        return tuple(read_queries(self.queries_path))

    def documents(self) -> Iterator[Document]:
        """Documents, one at a time."""
        return read_documents(self.documents_path)

    def check(self) -> None:
        """Compare the files with their recorded hashes. Raises RunConflictError naming an altered file."""
        for name, digest in self.facts["sha256"].items():
            if sha256_file(self.path / name) != digest:
                raise RunConflictError(f"{self.path / name} is not what was made: delete {self.path} and make it again")
