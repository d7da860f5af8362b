"""Write a corpus: documents one at a time, then queries, tokenizer, and last corpus.json, which says it is whole.

Memory: the plan (8 bytes a document) and one document. About 0.1 ms a document.
"""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arithcirc.config import differing_fields
from arithcirc.errors import RunConflictError
from arithcirc.influence.corpus.folder import CORPUS, DOCUMENTS, QUERIES, SCHEMA, TOKENIZER, CorpusFolder
from arithcirc.influence.corpus.plan import Plan, make_plan
from arithcirc.influence.corpus.queries import make_queries
from arithcirc.influence.corpus.spec import CorpusSpec
from arithcirc.influence.corpus.texts import document
from arithcirc.influence.corpus.vocabulary import TokenCounter, save_tokenizer, vocabulary
from arithcirc.influence.documents import write_items
from arithcirc.store import sha256_file, write_atomic, write_json

_REPORTED = 1000


def make_corpus(spec: CorpusSpec, folder: Path | str, *, progress: Callable[[int], None] | None = None) -> CorpusFolder:
    """Make the corpus in a folder, or open it where it is there already, whole and of the same spec.

    `progress` is called with the number of documents written since its last call. Raises RunConflictError when the
    folder holds something else, RequestError for queries that do not fit, EnvironmentFailure of the disk.
    """
    folder = Path(folder)
    if found := _made(spec, folder):
        return found
    plan = make_plan(spec)
    queries = make_queries(plan)
    counter = TokenCounter(spec.largest)
    seen = _Seen()
    write_atomic(folder / DOCUMENTS, lambda part: _write_documents(plan, part, counter, seen, progress))
    write_items(folder / QUERIES, queries)
    save_tokenizer(spec.largest, folder / TOKENIZER)
    write_json(folder / CORPUS, _describe(plan, folder, seen, Counter(query.group for query in queries)))
    return CorpusFolder.open(folder)


def _made(spec: CorpusSpec, folder: Path) -> CorpusFolder | None:
    """The corpus of this spec, if the folder holds it whole."""
    if (folder / CORPUS).is_file():
        found = CorpusFolder.open(folder)
        if different := differing_fields(spec.to_json(), found.spec.to_json()):
            raise RunConflictError(
                f"{folder} holds another corpus ({'; '.join(different)}): choose another --out, or delete the folder"
            )
        found.check()
        return found
    if folder.exists() and (not folder.is_dir() or any(p.name not in _OURS for p in folder.iterdir())):
        raise RunConflictError(f"{folder} holds something that is no corpus: choose another --out")
    return None


_OURS = {name + part for name in (CORPUS, DOCUMENTS, QUERIES, TOKENIZER) for part in ("", ".part")}


class _Seen:
    """What went by while documents were written."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.sources: Counter[tuple[str, str]] = Counter()
        self.tokens = 0
        self.longest = 0

    def add(self, kind: str, source: str, tokens: int) -> None:
        self.kinds[kind] += 1
        self.sources[kind, source] += 1
        self.tokens += tokens
        self.longest = max(self.longest, tokens)


def _write_documents(
    plan: Plan, part: Path, counter: TokenCounter, seen: _Seen, progress: Callable[[int], None] | None
) -> None:
    with part.open("w", encoding="utf-8", newline="\n") as file:
        for number in range(plan.spec.documents):
            made = document(plan, number, counter)
            seen.add(made.kind, made.source, counter(made.text))
            file.write(json.dumps(vars(made), ensure_ascii=False) + "\n")
            if progress and (number + 1) % _REPORTED == 0:
                progress(_REPORTED)
    if progress and plan.spec.documents % _REPORTED:
        progress(plan.spec.documents % _REPORTED)


def _describe(plan: Plan, folder: Path, seen: _Seen, groups: Counter[str]) -> dict[str, Any]:
    """What corpus.json says."""
    tokenizer = f"{TOKENIZER}/tokenizer.json"
    return {
        "schema": SCHEMA,
        "spec": plan.spec.to_json(),
        "documents": {"number": plan.spec.documents, "kinds": dict(seen.kinds), "sources": _sources(seen)},
        "tokens": {"all": seen.tokens, "longest": seen.longest},
        "queries": dict(groups),
        "vocabulary": {"size": len(vocabulary(plan.spec.largest)), "limit": plan.spec.largest},
        "facts": [
            {"fact": fact.key, "how": fact.how, "documents": fact.documents, "asked": fact.asked}
            for fact in plan.facts.facts
        ],
        "sha256": {name: sha256_file(folder / name) for name in (DOCUMENTS, QUERIES, tokenizer)},
    }


def _sources(seen: _Seen) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {kind: {} for kind in seen.kinds}
    for (kind, source), number in sorted(seen.sources.items()):
        found[kind][source] = number
    return found
