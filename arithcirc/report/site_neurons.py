"""The neurons of a static export: the strongest of them, which get a page, their labels, and the lines of their index.

The neurons with the largest |exact effect|, tested for heuristics or not, taken in turn from the operators so that none
is left out: effects in nats differ between operators. One without a stored map is listed, but has no page.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from arithcirc.catalogue import OPERATOR_FOLDERS
from arithcirc.components import Neuron
from arithcirc.neuron_maps import StoredMaps
from arithcirc.viz import theme
from arithcirc.viz.frames import RunData, has
from arithcirc.viz.label_order import best_first

MAPPED = 4
"""Labels of a neuron that its line names and its page draws."""
FOLDER = "neurons"


@dataclass(frozen=True)
class Chosen:
    """A neuron of the list; ranks are by effect, in its layer of `of_layer` and in the model of `of_all`.

    It has a page where it is `mapped`; `untested` says why it was not tested for heuristics, empty where it was.
    """

    operator: str
    neuron: Neuron
    effect: float
    std: float
    rank: int
    important: bool
    of_layer: int = 0
    overall: int = 0
    of_all: int = 0
    mapped: bool = True
    untested: str = ""

    @property
    def name(self) -> str:
        """`L2N209`."""
        return f"L{self.neuron.layer}N{self.neuron.index}"

    @property
    def file(self) -> str:
        """The page's name, without folder."""
        return f"{OPERATOR_FOLDERS[self.operator]}_{self.name}.html"


def stored(run_path: Any, operators: list[str], operands: tuple[int, int]) -> dict[str, StoredMaps]:
    """The operators' stored maps, as far as there are any."""
    found = {o: StoredMaps.find(run_path, o, operands) for o in operators if o in OPERATOR_FOLDERS}
    return {o: maps for o, maps in found.items() if maps is not None}


def choose(data: RunData, maps: Mapping[str, StoredMaps], top: int) -> list[Chosen]:
    """At most `top` neurons: the operators with maps in turn give their neuron with the next largest |effect|."""
    if not has(data.tables, "neurons", "operator", "layer", "neuron", "effect"):
        return []
    lists = []
    for operator, held in maps.items():
        table = data.tables["neurons"]
        table = table[(table["operator"] == operator) & table["effect"].notna()]
        if "metric" in table.columns:
            table = table[table["metric"] == "logit_diff"]
        if "method" in table.columns and (table["method"] == "exact").any():
            table = table[table["method"] == "exact"]
        known, reasons = set(held.neurons()), _reasons(table)
        table = table.assign(
            size=table["effect"].abs(),
            overall=table["effect"].rank(ascending=False, method="first"),
            of_layer=table.groupby("layer")["effect"].transform("size"),
            of_all=len(table),
        ).sort_values("size", ascending=False, kind="stable")
        rows = [_chosen(operator, row) for row in table.head(top).itertuples(index=False)]
        lists.append([
            replace(row, mapped=row.neuron in known, untested="" if row.important else reasons(row)) for row in rows
        ])  # fmt: skip
    turn = [row for place in range(top) for part in lists for row in part[place : place + 1]]
    order = {o: i for i, o in enumerate(maps)}
    return sorted(turn[:top], key=lambda c: (order[c.operator], -abs(c.effect)))


def _reasons(table: pd.DataFrame) -> Callable[[Chosen], str]:
    """Why a neuron that does not count as important was not tested for heuristics."""
    tested = table[table["important"].astype(bool)] if "important" in table.columns else table[:0]
    layers = [int(layer) for layer in tested["layer"]]
    first = min(layers, default=None)

    def reason(row: Chosen) -> str:
        layer = row.neuron.layer
        if first is None:
            return ""
        if layer < first:
            return f"layer {layer} comes before layer {first}, the first whose neurons are tested"
        return f"the {layers.count(layer)} strongest of layer {layer} are tested, and its rank there is {row.rank}"

    return reason


def _chosen(operator: str, row: Any) -> Chosen:
    std, rank = getattr(row, "std", float("nan")), getattr(row, "rank", 0)
    return Chosen(
        operator, Neuron(int(row.layer), int(row.neuron)), float(row.effect), float(std),
        0 if pd.isna(rank) else int(rank), bool(getattr(row, "important", False)),
        int(row.of_layer), int(row.overall), int(row.of_all),
    )  # fmt: skip


def labels_of(data: RunData, operator: str) -> dict[Neuron, list[dict[str, Any]]]:
    """The operator's labels by neuron, the best corrected ones first."""
    columns = ("operator", "layer", "neuron", "heuristic", "kind", "end", "score", "q")
    if not has(data.tables, "heuristics", *columns):
        return {}
    table = data.tables["heuristics"]
    table = best_first(table[table["operator"] == operator])
    found: dict[Neuron, list[dict[str, Any]]] = {}
    for row in table.to_dict("records"):
        held = found.setdefault(Neuron(int(row["layer"]), int(row["neuron"])), [])
        held.append({str(k): v for k, v in row.items()})
    return found


def rows(chosen: list[Chosen], labels: Mapping[str, Mapping[Neuron, list[dict[str, Any]]]]) -> Iterator[dict[str, Any]]:
    """The lines of the index of neurons."""
    for entry in chosen:
        held = labels[entry.operator].get(entry.neuron, [])
        sure = [r for r in held if r.get("significant")]
        yield {
            "chosen": entry, "best": next(iter(sure or held), None), "sure": len(sure), "total": len(held),
            "names": ", ".join(str(r["heuristic"]) for r in sure[:MAPPED]),
            "more": max(0, len(sure) - MAPPED),
            "families": sorted({theme.family_name(str(r["family"])) for r in sure if "family" in r}),
        }  # fmt: skip
