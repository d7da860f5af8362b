"""The stages of opening a model: what each needs, which tables it writes, and how it makes them."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from arithcirc.axioms.evaluation import Cell, evaluation_set
from arithcirc.axioms.graphs import Question
from arithcirc.axioms.opening.ablation import Ablated, ablated
from arithcirc.axioms.opening.circuit import Part, circuit_table, eliminate, faithfulness
from arithcirc.axioms.opening.designed import Designed, designed_set
from arithcirc.axioms.opening.edge_heads import edge_heads
from arithcirc.axioms.opening.layers import layer_curves, layers_needed
from arithcirc.axioms.opening.neurons import knockouts, neuron_table
from arithcirc.axioms.opening.opened import Opened, open_folder
from arithcirc.axioms.opening.patching import patching
from arithcirc.axioms.opening.reach_probes import reach_probes
from arithcirc.axioms.opening.verdict import fits, generalisation, verdict
from arithcirc.axioms.opening.walk import walk, walked_question
from arithcirc.components import Head, Mlp
from arithcirc.errors import RequestError

FEWEST, MOST = 40, 100_000
Tables = dict[str, pd.DataFrame]
"""Name -> table."""


@dataclass(frozen=True)
class OpeningConfig:
    """What is asked: the model's files by their hashes, how many questions, and the seed that they are drawn with.

    Raises RequestError for a number of questions outside FEWEST..MOST or odd.
    """

    weights: str
    tokenizer: str
    shape: str
    questions: int
    seed: int

    def __post_init__(self) -> None:
        if not FEWEST <= self.questions <= MOST or self.questions % 2:
            raise RequestError(f"{self.questions} questions: use an even number of {FEWEST} to {MOST}, 160 is usual")

    def section(self, name: str) -> dict[str, Any]:
        """The only section, `opening`."""
        return {"opening": asdict(self)}[name]


class Bench:
    """A model and the questions put to it, made when they are first needed."""

    def __init__(self, folder: Path, questions: int, seed: int, device: str | None) -> None:
        self.folder, self.questions, self.seed, self.device = folder, questions, seed, device

    @cached_property
    def opened(self) -> Opened:
        """The model."""
        return open_folder(self.folder, device=self.device)

    def designed(self, times: float, purpose: int) -> tuple[Designed, ...]:
        """Designed questions about chains of the longest trained length."""
        opened = self.opened
        number = round(times * self.questions)
        return designed_set(opened.nodes, number, seed=self.seed, names=opened.names, purpose=100 + purpose)

    def cell(self, family: str, nodes: int) -> tuple[Question, ...]:
        """An evaluation set, with other questions than the study's."""
        return evaluation_set(Cell(family, nodes), number=self.questions, seed=self.seed + 1, names=self.opened.names)

    @cached_property
    def sets(self) -> dict[str, Ablated]:
        """Questions that circuits and knock-outs are judged on, none of them used to find these."""
        nodes = self.opened.nodes
        asked = {"designed": tuple(made.question for made in self.designed(1.0, 3))}
        for family in ("sequential", "flipped", "reversal"):
            asked[f"{family}-{nodes:02d}"] = self.cell(family, nodes)
        if fits(self.opened.asked, 2 * nodes, self.opened.characters):
            asked[f"sequential-{2 * nodes:02d}"] = self.cell("sequential", 2 * nodes)
        return {name: ablated(self.opened, questions) for name, questions in asked.items()}


Tell = Callable[[int], None]


@dataclass(frozen=True)
class Stage:
    """A stage: the tables it reads and writes. `version` counts up when its tables mean other things."""

    name: str
    needs: tuple[str, ...]
    makes: tuple[str, ...]
    run: Callable[[Bench, Tables], Tables]
    version: int = 1


def _patching(bench: Bench, _: Tables) -> Tables:
    opened = bench.opened
    made = patching(opened, nodes=opened.nodes, pairs=max(8, bench.questions // 6), seed=bench.seed)
    return {"patching": made}


def _edge_heads(bench: Bench, _: Tables) -> Tables:
    opened, cut = bench.opened, max(8, bench.questions // 4)
    asked = {"designed": tuple(made.question for made in bench.designed(1.0, 4))}
    for nodes in (opened.nodes, 2 * opened.nodes):
        if fits(opened.asked, nodes, opened.characters):
            asked[f"shuffled-{nodes:02d}"] = bench.cell("shuffled", nodes)
    parts = [edge_heads(opened, questions, name=name, cut=cut) for name, questions in asked.items()]
    return {"edge_heads": pd.concat(parts, ignore_index=True)}


def _probes(bench: Bench, _: Tables) -> Tables:
    return {"reach_probes": reach_probes(bench.opened, bench.designed(10.0, 0), seed=bench.seed)}


def _layers(bench: Bench, tables: Tables) -> Tables:
    curves = layer_curves(bench.opened, bench.designed(3.0, 1), tables["reach_probes"])
    return {"layer_curves": curves, "layers_needed": layers_needed(curves)}


def _circuit(bench: Bench, _: Tables) -> Tables:
    made = ablated(bench.opened, [one.question for one in bench.designed(1.0, 2)])
    return {"circuit": circuit_table(eliminate(made))}


def circuit_parts(table: pd.DataFrame) -> tuple[Part, ...]:
    """The parts of the circuit in a table of `circuit`."""
    rows = table[table["in_circuit"]].sort_values(["layer", "kind", "head"]).to_dict("records")
    return tuple(
        Head(int(row["layer"]), int(row["head"])) if row["kind"] == "head" else Mlp(int(row["layer"])) for row in rows
    )


def _faithfulness(bench: Bench, tables: Tables) -> Tables:
    return {"faithfulness": faithfulness(bench.sets, circuit_parts(tables["circuit"]), seed=bench.seed)}


def _neurons(bench: Bench, _: Tables) -> Tables:
    made = ablated(bench.opened, [one.question for one in bench.designed(4.0, 5)])
    table, rate = neuron_table(made, seed=bench.seed)
    return {"neurons": table, "neuron_base_rate": rate}


def _knockouts(bench: Bench, tables: Tables) -> Tables:
    return {"knockouts": knockouts(bench.sets, tables["neurons"], seed=bench.seed)}


def _walk(bench: Bench, tables: Tables) -> Tables:
    made = bench.sets["designed"]
    return walk(bench.opened, walked_question(made.questions, made.margins()), circuit_parts(tables["circuit"]))


def _verdict(bench: Bench, tables: Tables) -> Tables:
    opened = bench.opened
    general = generalisation(
        opened.asked, nodes=opened.nodes, number=bench.questions, seed=bench.seed, names=opened.names
    )
    return {"generalisation": general, "verdict": verdict(general, tables["knockouts"], mix=opened.mix)}


STAGES = (
    Stage("patching", (), ("patching",), _patching),
    Stage("edge_heads", (), ("edge_heads",), _edge_heads),
    Stage("probes", (), ("reach_probes",), _probes),
    Stage("layers", ("reach_probes",), ("layer_curves", "layers_needed"), _layers),
    Stage("circuit", (), ("circuit",), _circuit),
    Stage("faithfulness", ("circuit",), ("faithfulness",), _faithfulness),
    Stage("neurons", (), ("neurons", "neuron_base_rate"), _neurons),
    Stage("knockouts", ("neurons",), ("knockouts",), _knockouts),
    Stage("walk", ("circuit",), ("walk_tokens", "walk_attention", "walk_margins"), _walk, version=2),
    Stage("verdict", ("knockouts",), ("generalisation", "verdict"), _verdict, version=2),
)
"""In the order in which they run."""
