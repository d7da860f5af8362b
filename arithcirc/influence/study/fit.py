"""Stages `documents` and `factors`: the corpus as tokens, and the curvature of the model on it.

Encoding streams the corpus once and says how many texts were too long and how many words are unknown. Factors come from
all documents, or from `fit_documents` of them drawn without replacement; labels are sampled from the model (the true
Fisher). What kronfluence finished of an interrupted fit is used again (see `engine`).
"""

import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from arithcirc.errors import NumericsError, PromptError
from arithcirc.influence.documents import read_lines
from arithcirc.influence.engine import Engine, Settings
from arithcirc.influence.parallel import fit_in_processes
from arithcirc.influence.rows import Row, Rows
from arithcirc.influence.study.study import FACTORS, TOKENS, Study, abandon
from arithcirc.influence.study.tokens import TokenStore, TokenWriter

FEW = 32
"""Documents below which a fit is warned of."""
_EVERY = 500


def encode_documents(study: Study) -> TokenStore:
    """Stage `documents`: every text as tokens in `tokens/`. A finished stage is reused."""
    folder = study.run.path / TOKENS
    if study.run.finished("documents"):
        return TokenStore.open(folder)
    start = time.perf_counter()
    for old in folder.glob("part-*"):
        old.unlink()
    writer, encoder = TokenWriter(folder), study.encoder
    n_read = n_pieces = n_cut = n_tokens = n_unknown = 0
    total = study.source.n_documents
    for line, document in read_lines(study.source.documents):
        n_read += 1
        for span, tokens in encoder.pieces(document.text):
            writer.add(line, span, tokens)
            n_pieces, n_tokens = n_pieces + 1, n_tokens + len(tokens)
            n_cut += span.chunk == 1
            n_unknown += tokens.count(encoder.unknown)
        if n_read % _EVERY == 0 or n_read == total:
            study.report("documents", n_read, total)
    writer.close()
    if n_tokens <= 2 * n_pieces:
        raise PromptError(f"{study.source.documents}: no document has a token to predict, influence needs some text")
    facts = {
        "documents": n_read, "pieces": n_pieces, "cut": n_cut, "tokens": n_tokens, "unknown_tokens": n_unknown,
    }  # fmt: skip
    study.run.finish("documents", study.files_in(TOKENS), seconds=time.perf_counter() - start, facts=facts)
    _say(study, facts)
    return TokenStore.open(folder)


def fit_factors(study: Study) -> None:
    """Stage `factors`: EK-FAC of the tracked layers in `factors/`. A finished stage is reused."""
    if study.run.finished(FACTORS):
        study.notice(FACTORS, "finished before, reused")
        return
    start = time.perf_counter()
    store = encode_documents(study)
    rows = fit_rows(study, store)
    if len(rows) < FEW:
        study.notice(FACTORS, f"curvature from {len(rows)} documents is poor: give {FEW} or more, thousands are better")
    try:
        _fit(study, Rows(rows))
    except NumericsError:
        abandon(study)
        raise
    facts = {"documents": len(rows), "tracked": list(study.tracked), "peak_bytes": peak_bytes()}
    study.run.finish(FACTORS, study.files_in(FACTORS), seconds=time.perf_counter() - start, facts=facts)


def _fit(study: Study, rows: Rows) -> None:
    """In this process, or shared out among several."""
    if study.how.processes == 1:
        engine(study).fit(rows, progress=study.report)
        return
    fit_in_processes(
        study.model.network, study.tracked, study.run.path / FACTORS, rows, settings=settings(study, "ekfac"),
        processes=study.how.processes, devices=devices(study.model.info.device),
        weights=study.model.info.weights_sha256,
    )  # fmt: skip


def devices(device: str) -> list[str]:
    """A GPU for each process in turn, where GPUs were asked for in general; none on a CPU or a chosen GPU."""
    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] if device == "cuda" else []


def peak_bytes() -> int:
    """The most memory this process has had resident, model and libraries included."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def fit_rows(study: Study, store: TokenStore) -> list[Row]:
    """The documents that the curvature comes from."""
    wanted = study.config.factors.fit_documents
    if wanted is None or wanted >= len(store):
        return store.rows(0, len(store))
    draw = np.random.default_rng([study.config.factors.seed, 1])
    return store.chosen(draw.choice(len(store), wanted, replace=False))


def engine(study: Study) -> Engine:
    """The engine over the study's factors."""
    return _engine(study, study.run.path / FACTORS, "ekfac")


def plain_engine(study: Study, folder: Path, rows: Sequence[Row]) -> Engine:
    """An engine without curvature, whose scores are dot products; its few files go to `folder`."""
    made = _engine(study, folder / "plain", "identity")
    made.fit(Rows(rows[:1]))
    return made


def _engine(study: Study, folder: Path, strategy: str) -> Engine:
    return Engine(
        study.model.network, study.tracked, folder, settings=settings(study, strategy),
        weights=study.model.info.weights_sha256,
    )  # fmt: skip


def settings(study: Study, strategy: str) -> Settings:
    """What the study asks of an engine."""
    return Settings(
        strategy=strategy,
        damping=study.config.scores.damping,
        batch_size=study.how.batch_size,
        query_batch_size=study.how.query_batch_size,
        low_rank=study.config.scores.low_rank if strategy != "identity" else None,
        seed=study.config.factors.seed,
    )


def _say(study: Study, facts: dict[str, int]) -> None:
    """One line about texts that were too long, one about words the model does not know."""
    if facts["cut"]:
        done = "truncated" if study.encoder.long == "truncate" else f"cut into {facts['pieces']:,} documents in all"
        study.notice(
            "documents",
            f"{facts['cut']:,} of {facts['documents']:,} are longer than {study.encoder.max_tokens} tokens: {done}",
        )
    if facts["unknown_tokens"]:
        study.notice("documents", f"{facts['unknown_tokens']:,} of {facts['tokens']:,} tokens are unknown to the model")
