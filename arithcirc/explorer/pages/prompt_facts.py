"""What the tables and the stored maps of a run say of one prompt, with no model at hand.

A heuristic *holds* of a prompt by its operands and true result, whatever the model answers. Its neurons are those
labelled with it, by labels that are significant (q below the run's level) or merely matched (score at the threshold).
Stored maps give what a neuron writes directly into a number's logit: activation x value. The final norm divides that
by the size of the prompt's residual stream, which no table holds: stored contributions compare within a prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from arithcirc.components import Neuron
from arithcirc.errors import RequestError
from arithcirc.explorer.pages.prompt_ask import Prompt
from arithcirc.explorer.source import Source
from arithcirc.viz import masks, theme
from arithcirc.viz.frames import flags

LABELS = ("significant", "matched")
FLAGSHIP = (226, 68)
"""Operands of the prompt shown first where it is legal."""


@dataclass(frozen=True)
class Labels:
    """The labels of one operator that count, and those of them that hold of a prompt.

    `rows` are label rows (layer, neuron, heuristic, family, value, kind, score, size); `important` neurons are those
    the run matched, labelled or not; `legal` is the number of legal prompts (None: not known). Where nothing was
    `computed`, that there is no label says nothing.
    """

    rows: pd.DataFrame
    important: tuple[Neuron, ...]
    holding: tuple[str, ...]
    legal: int | None = None
    computed: bool = True

    @cached_property
    def held(self) -> pd.DataFrame:
        """Label rows of heuristics that hold."""
        return self.rows[self.rows["heuristic"].isin(self.holding)]

    @cached_property
    def by_name(self) -> dict[str, list[Neuron]]:
        """The neurons of each heuristic that holds."""
        out: dict[str, list[Neuron]] = {name: [] for name in self.holding}
        for layer, neuron, name in self.held[["layer", "neuron", "heuristic"]].itertuples(index=False, name=None):
            out[str(name)].append(Neuron(int(layer), int(neuron)))
        return {name: list(dict.fromkeys(neurons)) for name, neurons in out.items()}

    def carriers(self, name: str) -> tuple[Neuron, ...]:
        """Neurons of a heuristic, or with `*` of all that hold. Raises RequestError where no neuron has it."""
        found = neurons_of(self.held if name == "*" else self.rows[self.rows["heuristic"] == name])
        if not found and name != "*":
            raise RequestError(
                f"no neuron is labelled with {name[:60]!r} here: write a name as the Heuristics page shows it"
            )
        return found

    def where(self, neurons: Sequence[Neuron], shape: tuple[int, int]) -> Bool[np.ndarray, "layer neuron"]:
        """These neurons on the plane of all."""
        out = np.zeros(shape, dtype=bool)
        inside = [n for n in neurons if n.layer < shape[0] and n.index < shape[1]]
        out[[n.layer for n in inside], [n.index for n in inside]] = True
        return out


def neurons_of(rows: pd.DataFrame) -> tuple[Neuron, ...]:
    """The different neurons of some rows, in their order."""
    pairs = rows[["layer", "neuron"]].drop_duplicates()
    return tuple(Neuron(int(i), int(j)) for i, j in pairs.itertuples(index=False))


def labels_of(source: Source, prompt: Prompt, which: str) -> Labels:
    """The operator's labels; without a table `heuristics` there are none, and `neurons` says what is important."""
    legal = legal_prompts(source, prompt.operator)
    if not source.has("heuristics"):
        return Labels(_no_rows(), _ranked(source, prompt.operator), (), legal, computed=False)
    table = source.table("heuristics", prompt.operator)
    rows = table[flags(table, which)]
    names = [str(name) for name in rows["heuristic"].unique()]
    holding = tuple(n for n in names if masks.holds(n, prompt.operator, prompt.op1, prompt.op2))
    return Labels(rows, neurons_of(table), holding, legal)


def legal_prompts(source: Source, operator: str) -> int | None:
    """How many legal prompts an operator has."""
    if not source.has("accuracy"):
        return None
    rows = source.table("accuracy", operator)
    known = len(rows) and "legal" in rows.columns and pd.notna(rows["legal"].iloc[0])
    return int(rows["legal"].iloc[0]) if known else None


def _ranked(source: Source, operator: str) -> tuple[Neuron, ...]:
    if not source.has("neurons"):
        return ()
    table = source.table("neurons", operator)
    return neurons_of(table[flags(table, "important")])


def _no_rows() -> pd.DataFrame:
    return pd.DataFrame(columns=["layer", "neuron", "heuristic", "family", "value", "kind", "score", "size"])


@dataclass(frozen=True)
class Stored:
    """What the model answered when the run was made; -1: no number."""

    given: int
    correct: bool


def stored_answer(source: Source, prompt: Prompt) -> Stored | None:
    """The answer in table `answers`; None where the run does not have this prompt."""
    if not source.has("answers"):
        return None
    table = source.table("answers", prompt.operator)
    row = table[(table["op1"] == prompt.op1) & (table["op2"] == prompt.op2)]
    return Stored(int(row["given"].iloc[0]), bool(row["correct"].iloc[0])) if len(row) else None


def examples(source: Source, operator: str, *, right: int = 3, wrong: int = 5) -> list[tuple[str, bool]]:
    """Prompts of an operator worth a look, with whether the model is right: the flagship first, then wrong ones."""
    if not source.has("answers"):
        return []
    table = source.table("answers", operator)
    if table.empty:
        return []
    spread = np.random.default_rng(0).permutation(len(table))
    correct = table["correct"].to_numpy(dtype=bool)
    first = np.flatnonzero((table["op1"] == FLAGSHIP[0]) & (table["op2"] == FLAGSHIP[1]))
    known = [*first, *spread[correct[spread]]][:right]
    missed = spread[~correct[spread]][:wrong]
    rows = table.iloc[list(dict.fromkeys(int(i) for i in [*known, *missed]))]
    return [
        (f"{a}{operator}{b}=", bool(c))
        for a, b, c in rows[["op1", "op2", "correct"]].itertuples(index=False, name=None)
    ]


def to_try(source: Source, operator: str) -> dict[str, list[str]]:
    """Prompts to try by how the run answered them, the flagship among them; wrong ones of others where there is none.

    Keys are `right`, `wrong` and, for what the run did not ask, `try`.
    """
    found: dict[str, list[str]] = {"right": [], "wrong": [], "try": []}
    flagship = Prompt("-", *FLAGSHIP)
    if "-" in source.operators and source.operands[1] >= max(FLAGSHIP):
        stored = stored_answer(source, flagship)
        found["try" if stored is None else "right" if stored.correct else "wrong"].append(flagship.text)
    for text, correct in examples(source, operator):
        held = found["right" if correct else "wrong"]
        if text not in held:
            held.append(text)
    if not found["wrong"]:
        others = [examples(source, o, wrong=3) for o in source.operators if o != operator]
        found["wrong"] = [text for known in others for text, correct in known if not correct]
    return found


@dataclass(frozen=True)
class StoredWriting:
    """Stored neurons on a prompt: activation, and activation x value for each number (up to the final norm)."""

    neurons: tuple[Neuron, ...]
    activation: Float[np.ndarray, "neuron"]
    writing: Float[np.ndarray, "neuron number"]


def stored_writing(source: Source, prompt: Prompt, numbers: Sequence[int]) -> StoredWriting | None:
    """What the stored neurons write into these numbers' logits; None where the run has no maps of this prompt."""
    maps = source.maps(prompt.operator)
    found = maps.on_prompt(prompt.op1, prompt.op2, numbers) if maps is not None else None
    if maps is None or found is None:
        return None
    k, value = found
    return StoredWriting(tuple(maps.neurons()), k, k[:, None] * value)


def heuristic_rows(labels: Labels, contribution: dict[Neuron, float]) -> pd.DataFrame:
    """One row per heuristic that holds: its neurons, their summed contribution, the share of prompts it holds of."""
    carriers = labels.by_name
    first = labels.held.drop_duplicates("heuristic").set_index("heuristic")
    best = labels.held.groupby("heuristic", sort=False)["score"].max().to_dict()
    family, value = first["family"].to_dict(), first["value"].to_dict()
    size = first["size"].to_dict() if "size" in first.columns else {}
    rows = []
    for name in labels.holding:
        known = [contribution[n] for n in carriers[name] if n in contribution]
        rows.append(
            {
                "id": f"h:{name}",
                "heuristic": name,
                "family": theme.family_name(str(family[name])),
                "on": str(value[name]),
                "neurons": len(carriers[name]),
                "contribution": float(np.sum(known)) if known else None,
                "score": float(best[name]),
                "share": float(size[name]) / labels.legal if labels.legal and name in size else None,
            }
        )
    frame = pd.DataFrame(rows)
    return frame.sort_values("contribution", ascending=False, na_position="last") if len(frame) else frame


def neuron_labels(labels: Labels) -> dict[Neuron, list[str]]:
    """For each labelled neuron its heuristics that hold, best score first."""
    out: dict[Neuron, list[str]] = {}
    held = labels.held.sort_values("score", ascending=False, kind="stable")
    for layer, neuron, name in held[["layer", "neuron", "heuristic"]].itertuples(index=False, name=None):
        out.setdefault(Neuron(int(layer), int(neuron)), []).append(str(name))
    return out


def best_labels(labels: Labels) -> dict[Neuron, str]:
    """For each labelled neuron its best label of all, whether it holds or not."""
    best = labels.rows.sort_values("score", ascending=False, kind="stable").drop_duplicates(["layer", "neuron"])
    rows = best[["layer", "neuron", "heuristic"]].itertuples(index=False, name=None)
    return {Neuron(int(layer), int(neuron)): str(name) for layer, neuron, name in rows}


def effects(source: Source, operator: str) -> dict[Neuron, float]:
    """Each important neuron's exact patching effect (nats); empty without the table."""
    if not source.has("neurons"):
        return {}
    table = source.table("neurons", operator)
    chosen = table[(table["method"] == "exact") & (table["metric"] == "logit_diff") & flags(table, "important")]
    rows = chosen[["layer", "neuron", "effect"]].itertuples(index=False, name=None)
    return {Neuron(int(layer), int(neuron)): float(effect) for layer, neuron, effect in rows}
