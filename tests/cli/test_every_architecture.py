"""A whole analysis of every supported architecture, from a folder: every stage ends, tables are filled and right."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import toys
from architectures import BUILDERS, shaken
from torch import Tensor

from arithcirc.arithmetic.operators import Prompts
from arithcirc.arithmetic.tokens import prompt_encoder
from arithcirc.measure.metrics import METRICS, patching_metrics
from arithcirc.models.load import load
from arithcirc.pipeline.stages import STAGES
from arithcirc.store import RunFolder
from arithcirc.training.tokenizer import EQUALS_ID

ALWAYS = ("gemma2",)
"""The one with most peculiarities; the other ten take minutes and are run by `make test-slow`."""
ROWS = {
    "accuracy": 1,
    "effects": 4 * 4 * toys.LAYERS * (toys.HEADS + 1) * len(METRICS),  # changes, tokens, components
    "neurons": (toys.LAYERS - 1) * toys.HIDDEN * 4,  # neurons from the first layer on, metrics and methods
}
"""Rows of one operator."""
FILLED = (
    *ROWS, "answers", "circuit", "failures", "faithfulness", "head_cuts", "heads", "heuristics",
    "knockouts_by_heuristic", "knockouts_by_prompt", "neuron_agreement", "neuron_faithfulness", "number_neurons",
)  # fmt: skip
UNDEFINED = {
    "head", "effect", "sem", "faithfulness", "faithfulness_ratio", "faithfulness_sem", "accuracy", "low", "high", "p",
    "p_shift", "spearman", "overlap", "pearson",
}  # fmt: skip
"""Columns that are empty where they mean nothing: the head of an MLP, a test without pairs, the spread of one prompt,
the faithfulness on prompts that ablating everything leaves as they are."""


def analysable(name: str) -> Any:
    """A builder's model with windows that a prompt fits into, as a real one has, and that gives enough right answers.

    Gemma's embeddings are scaled and tied, so a random one repeats its last token, `=`; a small `=` lets numbers win.
    """
    if name.startswith("neox"):  # another draw: the builder's answers two prompts of `-`
        return shaken(toys.gpt_neox(parallel=name == "neox-parallel", seed=6))
    model = BUILDERS[name]()
    if getattr(model.config, "sliding_window", None):
        model.config.sliding_window = 16
    if name.startswith("gemma"):
        with torch.no_grad():
            model.get_input_embeddings().weight[EQUALS_ID] *= 0.05
    return model


def prompts_of(rows: pd.DataFrame, side: str) -> Prompts:
    return Prompts(*(rows[f"{side}{column}"].to_numpy() for column in ("operator", "op1", "op2", "answer")))


def by_hand(folder: Path, rows: pd.DataFrame, site: Any, token: int) -> np.ndarray:
    """Mean effects of patching a head, over these prompts, by plain forwards with its z replaced."""
    model = load(str(folder), device="cpu")
    encoder = prompt_encoder(model.tokenizer, vocab_size=model.info.d_vocab)
    clean, other = (prompts_of(rows, side) for side in ("", "counterfactual_"))
    tokens, source = (torch.from_numpy(encoder.encode(p)) for p in (clean, other))
    z = model.activations(source, parts={"z"}).z[site.layer][:, token, site.head]

    def put(part: str, layer: int, value: Tensor) -> Tensor | None:
        if part != "z" or layer != site.layer:
            return None
        value = value.clone()
        value[:, token, site.head] = z
        return value

    answers = (torch.from_numpy(encoder.answers(p.answer)) for p in (clean, other))
    reduce = patching_metrics(model.logits(tokens), *answers)
    found: np.ndarray = reduce(model.logits(tokens, edit=put)[None], slice(0, len(tokens)))[0].mean(0).numpy()
    return found


@pytest.mark.parametrize("name", [n if n in ALWAYS else pytest.param(n, marks=pytest.mark.slow) for n in BUILDERS])
def test_a_whole_analysis(cli: Callable[..., Any], tmp_path: Path, name: str) -> None:
    folder = toys.save(analysable(name), tmp_path / "models" / name)
    operators = "+" if name in ALWAYS else "+-"  # several are shown by the toys that other tests analyse
    done = cli("analyze", folder, "--operators", operators, *toys.WHOLE)
    assert done.code == 0, done.err
    run = RunFolder.open(tmp_path / "runs" / name / "main")
    assert [s.name for s in STAGES if not run.finished(s.name)] == []
    assert run.manifest["facts"]["model"]["architecture"] == type(BUILDERS[name]()).__name__
    for table in FILLED:
        found = run.table(table)
        assert len(found) == ROWS.get(table, len(found) / len(operators)) * len(operators) > 0, table
        numbers = found.select_dtypes("number").astype(float)
        assert not np.isinf(numbers).any(axis=None), table
        assert set(numbers.columns[numbers.isna().any()]) <= UNDEFINED, table
    effects = run.table("effects").query("operator == '+' and change == 'any' and position == 'op2' and kind == 'head'")
    best = next(effects.query("metric == 'logit_diff'").nlargest(1, "mean").itertuples())
    told = effects[(effects["layer"] == best.layer) & (effects["head"] == best.head)].set_index("metric")["mean"]
    rows = run.table("prompts").query("operator == '+' and set == 'discover' and change == 'any'")
    np.testing.assert_allclose(told[list(METRICS)], by_hand(folder, rows, best, 3), rtol=1e-3, atol=1e-4)
    assert abs(told["logit_diff"]) > 1e-2
    report = (run.path / "report.html").read_text(encoding="utf-8")
    assert name in report
    assert len(report) > 100_000
