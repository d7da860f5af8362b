"""The prompts of a static export: what the model answers, whether it is right, and which heuristics hold.

Of every operator, the evaluate prompts, prompts that the model gets wrong, and one example. A heuristic counts when
some important neuron carries it significantly; of those that hold of a prompt, the ones with the strongest neurons come
first, each with its strongest neurons.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from arithcirc.components import Neuron
from arithcirc.report.site_neurons import Chosen
from arithcirc.viz import theme
from arithcirc.viz.frames import RunData, has
from arithcirc.viz.masks import mask

RIGHT, WRONG = 90, 60
"""Prompts listed per operator, answered correctly and not."""
SHOWN = 6
"""Heuristics named per prompt."""
STRONGEST = 3
"""Neurons named per heuristic."""
EXAMPLES = {"-": (226, 68)}
_PROMPT = re.compile(r"\s*(\d+)\D+(\d+)")
Labels = Mapping[str, Mapping[Neuron, list[dict[str, Any]]]]


def rows(data: RunData, labels: Labels, chosen: list[Chosen]) -> list[dict[str, Any]]:
    """One per prompt, the operators in order, wrong ones first."""
    if not has(data.tables, "answers", "operator", "op1", "op2", "answer", "given", "correct"):
        return []
    pages = {(c.operator, c.neuron): c for c in chosen}
    effects = _effects(data)
    found = []
    for operator in theme.ordered(data.tables["answers"]["operator"]):
        answers = data.tables["answers"]
        answers = answers[answers["operator"] == operator].set_index(["op1", "op2"])
        carried = _carried(operator, labels.get(operator, {}), effects)
        listed = _chosen_prompts(data, operator, answers)
        where = _where(operator, [name for name, _ in carried], listed, data.operands)
        for at, (op1, op2) in enumerate(listed):
            here = [item for item, held in zip(carried, where, strict=True) if held[at]]
            found.append(_row(operator, op1, op2, answers.loc[(op1, op2)], here, pages))
    return found


def _where(
    operator: str, names: list[str], prompts: list[tuple[int, int]], operands: tuple[int, int]
) -> list[np.ndarray]:
    """Per heuristic, at which of the prompts it holds."""
    first, size = operands[0], operands[1] - operands[0] + 1
    at = np.array(prompts, dtype=np.int64).reshape(-1, 2) - first
    planes = (mask(name, operator, first, (size, size)) for name in names)
    return [np.zeros(len(at), dtype=bool) if p is None else p[at[:, 0], at[:, 1]] for p in planes]


def _effects(data: RunData) -> dict[tuple[str, int, int], float]:
    if not has(data.tables, "neurons", "operator", "layer", "neuron", "effect"):
        return {}
    table = data.tables["neurons"]
    if "important" in table.columns:
        table = table[table["important"].astype(bool)]
    keys = zip(table["operator"].astype(str), table["layer"], table["neuron"], strict=True)
    return {(o, int(la), int(n)): float(e) for (o, la, n), e in zip(keys, table["effect"], strict=True)}


def _carried(
    operator: str, labels: Mapping[Neuron, list[dict[str, Any]]], effects: Mapping[tuple[str, int, int], float]
) -> list[tuple[str, list[tuple[float, Neuron]]]]:
    """`(heuristic, its neurons by |effect|)`, the heuristic with the strongest neurons first."""
    found: dict[str, list[tuple[float, Neuron]]] = {}
    for neuron, held in labels.items():
        size = abs(effects.get((operator, neuron.layer, neuron.index), 0.0))
        for label in held:
            if label.get("significant"):
                found.setdefault(str(label["heuristic"]), []).append((size, neuron))
    for neurons in found.values():
        neurons.sort(key=lambda pair: (-pair[0], pair[1].layer, pair[1].index))
    return sorted(found.items(), key=lambda item: -sum(size for size, _ in item[1]))


def _chosen_prompts(data: RunData, operator: str, answers: pd.DataFrame) -> list[tuple[int, int]]:
    """Operands of the prompts listed: wrong ones, the example, evaluate prompts."""
    wrong = answers.index[~answers["correct"].astype(bool)]
    spread: Any = np.unique(np.linspace(0, len(wrong) - 1, min(WRONG, len(wrong))).astype(int)) if len(wrong) else []
    kept = {(int(wrong[i][0]), int(wrong[i][1])): None for i in spread}
    example = EXAMPLES.get(operator)
    if example is not None and example in answers.index:
        kept[example] = None
    prompts = data.tables.get("prompts", pd.DataFrame(columns=["operator", "set", "prompt"]))
    asked = prompts[(prompts["operator"] == operator) & (prompts["set"] == "evaluate")]["prompt"].unique()
    right = 0
    for text in asked:
        pair = _PROMPT.match(str(text))
        at = (int(pair[1]), int(pair[2])) if pair else None
        if at is not None and right < RIGHT and at in answers.index and at not in kept:
            kept[at] = None
            right += 1
    return list(kept)


def _row(
    operator: str,
    op1: int,
    op2: int,
    row: Any,
    here: list[tuple[str, list[tuple[float, Neuron]]]],
    pages: Mapping[tuple[str, Neuron], Chosen],
) -> dict[str, Any]:
    shown = []
    for name, neurons in here[:SHOWN]:
        links = [
            {"name": f"L{n.layer}N{n.index}", "file": pages[operator, n].file if (operator, n) in pages else None}
            for _, n in neurons[:STRONGEST]
        ]
        shown.append({"heuristic": name, "neurons": links, "more": max(0, len(neurons) - STRONGEST)})
    given = row["given"]
    return {
        "operator": operator,
        "text": f"{op1}{theme.OPERATOR_SIGNS.get(operator, operator)}{op2}=",
        "plain": f"{op1}{operator}{op2}=",
        "answer": int(row["answer"]),
        "given": "–" if given is None or pd.isna(given) or str(given) == "-1" else str(given),
        "correct": bool(row["correct"]),
        "heuristics": shown,
        "held": len(here),
        "neurons": len({n for _, neurons in here for _, n in neurons}),
    }
