"""A run folder with made-up numbers that obey the tables' definitions: what pages and figures are tested on.

`head_effect` and `faithfulness_value` are the closed forms, so a test can say which number belongs in which cell.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from viz import synthetic_neurons

from arithcirc.config import ModelConfig, RunConfig
from arithcirc.store import RunFolder

N_LAYERS, N_HEADS = 6, 4
OPERATORS = ("+", "-", "*", "/")
POSITIONS = ("op1", "operator", "op2", "equals")
CHANGES = ("any", "op1", "op2", "operator")
CHOSEN = {"+": 4, "-": 6, "*": 8, "/": 3}
CARRIERS = {(2, 1): "op1", (2, 3): "op2", (3, 0): "operator"}


def head_effect(operator: str, change: str, position: str, layer: int, head: int) -> float:
    """Made-up logit difference in nats: three planted heads at `=`, a small ripple elsewhere."""
    ripple = 0.01 * (layer - 2) + 0.002 * head + 0.001 * OPERATORS.index(operator)
    part = CARRIERS.get((layer, head))
    if position != "equals" or part is None or change not in ("any", part):
        return ripple
    return 6.0 + layer + 0.5 * OPERATORS.index(operator) + ripple


def mlp_effect(operator: str, change: str, position: str, layer: int) -> float:
    """Made-up logit difference: the first MLP at the operands, middle and late ones at `=`."""
    strength = {"any": 1.0, "op1": 0.6, "op2": 0.5, "operator": 0.3}[change]
    early = 5.0 if layer == 0 and position != "equals" else 0.05
    late = float(layer) if position == "equals" and layer >= 3 else 0.0
    return strength * (early + late) + 0.01 * OPERATORS.index(operator)


def faithfulness_value(operator: str, n_heads: int, prompt_set: str) -> float:
    """Made-up F of the ranked circuit; `*` never reaches .9 before all heads are in."""
    rate = {"+": 0.9, "-": 0.55, "*": 0.16, "/": 1.2}[operator]
    return float(1 - np.exp(-rate * n_heads)) - (0.01 if prompt_set == "evaluate" else 0.0)


def effects(n_layers: int = N_LAYERS, n_heads: int = N_HEADS) -> pd.DataFrame:
    """The `effects` table."""
    rows = []
    for operator in OPERATORS:
        for change in CHANGES:
            for position in POSITIONS:
                for layer in range(n_layers):
                    for head in (*range(n_heads), None):
                        if head is None:
                            value = mlp_effect(operator, change, position, layer)
                        else:
                            value = head_effect(operator, change, position, layer, head)
                        kind = "mlp" if head is None else "head"
                        key = (operator, change, position, layer, kind, head)
                        rows += [(*key, *numbers) for numbers in _metrics(value)]
    names = ["operator", "change", "position", "layer", "kind", "head", "metric", "mean", "median", "sem", "n"]
    return pd.DataFrame(rows, columns=names).astype({"head": "Int64"})


def _metrics(value: float) -> list[tuple[str, float, float, float, int]]:
    big = float(np.expm1(value))
    return [
        ("logit_diff", value, 0.9 * value, 0.03 * abs(value) + 0.001, 100),
        ("E", big, 0.5 * big, 0.4 * abs(big), 100),
        ("kl", abs(value) / 2, abs(value) / 3, 0.01, 100),
    ]


def circuit() -> pd.DataFrame:
    """The `circuit` table: heads by rank of their effect at `=`, all MLPs in."""
    rows = []
    for operator in OPERATORS:
        cells = [(layer, head) for layer in range(N_LAYERS) for head in range(N_HEADS)]
        strength = {c: head_effect(operator, "any", "equals", *c) for c in cells}
        ranked = sorted(cells, key=lambda c: -abs(strength[c]))
        for rank, (layer, head) in enumerate(ranked, start=1):
            rows.append((operator, "head", layer, head, rank, strength[layer, head], rank <= CHOSEN[operator]))
        for layer in range(N_LAYERS):
            rows.append((operator, "mlp", layer, None, layer + 1, mlp_effect(operator, "any", "equals", layer), True))
    names = ["operator", "kind", "layer", "head", "rank", "effect", "in_circuit"]
    return pd.DataFrame(rows, columns=names).astype({"head": "Int64"})


def faithfulness(draws: int = 5) -> pd.DataFrame:
    """The `faithfulness` table: ranked curves, random circuits, the whole and the empty model."""
    rows = []
    total = N_LAYERS * N_HEADS
    for operator in OPERATORS:
        for prompt_set in ("discover", "evaluate"):
            for n in (0, 1, 2, 3, 4, 6, 8, 12, 16, total):
                value = faithfulness_value(operator, n, prompt_set)
                rows.append(_row(operator, prompt_set, "ranked", n, 0, value, n == CHOSEN[operator]))
            rows.append(_row(operator, prompt_set, "full", total, 0, 1.0, False))
            rows.append(_row(operator, prompt_set, "empty", 0, 0, 0.0, False))
        for n in (CHOSEN[operator], 12):
            for draw in range(draws):
                value = n / total * 0.6 + 0.05 * (draw - draws // 2)
                rows.append(_row(operator, "evaluate", "random", n, draw, value, False))
    return pd.DataFrame(rows)


def _row(
    operator: str, prompt_set: str, kind: str, n_heads: int, draw: int, value: float, chosen: bool
) -> dict[str, object]:
    return {
        "operator": operator, "set": prompt_set, "circuit": kind, "n_heads": n_heads, "draw": draw,
        "n": 98 if prompt_set == "evaluate" else 100, "undefined": 2 if prompt_set == "evaluate" else 0,
        "faithfulness": value, "faithfulness_sem": 0.0123, "faithfulness_ratio": value - 0.004,
        "probability": min(max(value, 0.0), 1.0) * 0.98, "accuracy": min(max(value, 0.0), 1.0) ** 0.5,
        "kl": 4.0 * max(1.0 - value, 0.0), "chosen": chosen,
    }  # fmt: skip


def accuracy() -> pd.DataFrame:
    """The `accuracy` table; `/` is good only against a base rate of one half."""
    rows = [
        ("+", 20000, 19871, 19871 / 20000, 0.0067, None),
        ("-", 20000, 19402, 19402 / 20000, 0.0101, None),
        ("*", 4000, 3701, 3701 / 4000, 0.2103, None),
        ("/", 20000, 18123, 18123 / 20000, 0.5017, None),
    ]
    return pd.DataFrame(rows, columns=["operator", "n", "correct", "accuracy", "base_rate", "skipped"])


def prompts(n: int = 12) -> pd.DataFrame:
    """The `prompts` table, with one counterfactual seed."""
    rows = []
    for operator in OPERATORS:
        for prompt_set in ("discover", "evaluate"):
            for i in range(n) if prompt_set == "discover" else range(n, 2 * n):
                rows += [
                    (operator, f"{60 + i}{operator}{i + 1}=", 60 + i, i + 1, 61 + i, prompt_set, c, 0, "9+3=", 12)
                    for c in CHANGES
                ]
    names = ["operator", "prompt", "op1", "op2", "answer", "set", "change", "seed"]
    return pd.DataFrame(rows, columns=[*names, "counterfactual", "counterfactual_answer"])


def undefined() -> pd.DataFrame:
    """The `undefined` table."""
    return pd.DataFrame({"operator": ["+", "/"], "prompt": ["3+4=", "8/9="], "gap": [0.0012, 0.0004]})


TABLES = {
    "accuracy": accuracy,
    "prompts": prompts,
    "effects": effects,
    "circuit": circuit,
    "faithfulness": faithfulness,
    "undefined": undefined,
    **synthetic_neurons.TABLES,
}
STAGES = {
    "prompts": ("accuracy", "prompts"),
    "localize": ("effects",),
    "faithfulness": ("circuit", "faithfulness", "undefined"),
    **synthetic_neurons.STAGES,
}


def make_run(
    path: Path, *, tables: tuple[str, ...] = tuple(TABLES), name: str = "neox-arith", brief: bool = False
) -> RunFolder:
    """A finished run with the tables named; a brief one has effects at `=` in logit difference only."""
    config = RunConfig(model=ModelConfig(name, "step4000", "a" * 64, "b" * 64, "float32"))
    facts = {
        "name": name, "architecture": "GPTNeoXForCausalLM", "n_layers": N_LAYERS, "n_heads": N_HEADS, "d_model": 128,
        "d_mlp": 512, "n_params": 1_862_912, "device": "cpu", "bos": "<bos>", "tokens_seen": 4_096_000,
        "single_token_limit": 530,
    }  # fmt: skip
    run = RunFolder.create(path, config, sections=("model", "prompts", "circuit"), facts=facts)
    for stage, names in STAGES.items():
        made = {t: TABLES[t]() for t in names if t in tables}
        if brief and "effects" in made:
            made["effects"] = made["effects"].query("metric == 'logit_diff' and position == 'equals'")
        written = [run.write_table(t, table) for t, table in made.items()]
        arrays = [synthetic_neurons.ARRAYS[t] for t in made if t in synthetic_neurons.ARRAYS]
        written += [run.write_arrays(array, make()) for array, make in arrays]
        if written:
            run.finish(stage, written, seconds=12.345)
    return run
