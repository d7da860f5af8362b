"""Stage `queries`: completions, their nats and gradient norms, as the table `queries`; and the words to look for.

A query that the model completes with nothing, or whose prompt fills the context, is left out, said by name and kept in
the manifest's notes. The table holds the tokens of each row, so scoring needs no tokenizer.
"""

import json
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd

from arithcirc.errors import PromptError
from arithcirc.influence.rows import Row, Rows
from arithcirc.influence.study.baselines import WordCounts, count_words
from arithcirc.influence.study.completions import Completed, complete, run_on
from arithcirc.influence.study.fit import engine
from arithcirc.influence.study.source import queries_of
from arithcirc.influence.study.study import TOKENS, Study
from arithcirc.influence.study.tokens import TokenStore
from arithcirc.store import write_json

WORDS = "words.json"
_FEW = 3


def answer_queries(study: Study) -> pd.DataFrame:
    """Stage `queries`: the table, read again where it is finished. Raises PromptError where no query is left."""
    if study.run.finished("queries"):
        return study.run.table("queries")
    start = time.perf_counter()
    asked = queries_of(study.source)
    study.report("queries", 0, len(asked))
    done, skipped = complete(
        study.model.network, study.encoder, asked,
        max_new_tokens=study.config.queries.max_new_tokens, stop=study.config.queries.stop,
        batch_size=study.how.query_batch_size,
    )  # fmt: skip
    if skipped:
        first = "; ".join(f"{name!r}: {why}" for name, why in skipped[:_FEW])
        more = f" and {len(skipped) - _FEW} more" if len(skipped) > _FEW else ""
        study.notice("queries", f"{len(skipped)} of {len(asked)} left out ({first}{more})")
    if not done:
        raise PromptError(
            f"{study.source.queries}: no query has a completion to ask about ({skipped[0][0]!r}: {skipped[0][1]})"
        )
    if warning := run_on(done, study.encoder, study.config.queries.max_new_tokens):
        study.notice("queries", warning)
    measures = engine(study).measures(Rows([query.row for query in done]))
    table = _table(done, measures.nll.double().numpy(), measures.norm.double().numpy())
    study.run.write_table("queries", table)
    write_json(study.run.path / WORDS, _words(study, table).as_json())
    study.report("queries", len(asked), len(asked))
    study.run.note("queries_left_out", dict(skipped))
    facts = {"queries": len(done), "left_out": len(skipped), "full": sum(c.full for c in done)}
    study.run.finish("queries", ["queries.parquet", WORDS], seconds=time.perf_counter() - start, facts=facts)
    return table


def query_rows(table: pd.DataFrame) -> list[Row]:
    """Prompt and completion of every query, the loss on the completion."""
    return [
        Row(tuple(int(t) for t in ids), start=int(first))
        for ids, first in zip(table["row"], table["start"], strict=True)
    ]


def query_texts(table: pd.DataFrame) -> list[str]:
    """What a search by words looks for: prompt and completion."""
    return [f"{prompt} {said}" for prompt, said in zip(table["prompt"], table["completion"], strict=True)]


def read_words(study: Study) -> WordCounts:
    """The words counted by the stage."""
    held = json.loads((study.run.path / WORDS).read_text("utf-8"))
    return WordCounts(held["documents"], held["mean_words"], held["having"])


def _words(study: Study, table: pd.DataFrame) -> WordCounts:
    store = TokenStore.open(study.run.path / TOKENS)
    texts = (piece.text for piece in store.pieces(study.source.documents, 0, len(store)))
    return count_words(texts, query_texts(table))


def _table(done: Sequence[Completed], losses: np.ndarray, norms: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "query": [c.query.id for c in done],
            "group": [c.query.group for c in done],
            "task": [c.query.task for c in done],
            "prompt": [c.query.prompt for c in done],
            "answer": [c.query.answer for c in done],
            "completion": [c.text for c in done],
            "correct": [c.correct for c in done],
            "tokens": [len(c.completion) for c in done],
            "nats": losses,
            "norm": norms,
            "needs": [list(c.query.needs) for c in done],
            "row": [list(c.row.tokens) for c in done],
            "start": [c.row.start for c in done],
        }
    )
