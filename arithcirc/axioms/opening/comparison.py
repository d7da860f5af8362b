"""Two models side by side: one row per measurement that says something about why one generalises and one does not."""

import pandas as pd

from arithcirc.axioms.opening.edge_heads import QUERIES
from arithcirc.axioms.opening.neurons import CLASSES, NONE, ROLES
from arithcirc.store import RunFolder

_ACCURACIES = (
    ("accuracy", "accuracy"),
    ("hard accuracy", "hard"),
    ("against mention", "against"),
    ("misled", "misled"),
)
"""Measure, column of the table `generalisation`."""


def comparison(none: RunFolder, learned: RunFolder) -> pd.DataFrame:
    """Columns: measure, questions, none, learned, difference (learned minus none), text_none, text_learned.

    Measures: accuracy, hard accuracy, accuracy against order of mention and against end roles (misled), by cell; layers
    needed, by curve and distance; parts of the circuit, its faithfulness, completeness and accuracy, by questions; the
    most attention that a head has along edges beyond its base rate, by query, and what cutting the most needed head's
    edges costs; neurons by class; the verdict, in words.
    """
    one, other = _measures(none), _measures(learned)
    rows = []
    for key in dict.fromkeys((*one, *other)):
        a, b = one.get(key, float("nan")), other.get(key, float("nan"))
        rows.append((*key, a, b, b - a, None, None))
    words = [run.table("verdict")["claim"].iloc[-1] for run in (none, learned)]
    rows.append(("verdict", "", *[float("nan")] * 3, *words))
    columns = ["measure", "questions", "none", "learned", "difference", "text_none", "text_learned"]
    return pd.DataFrame(rows, columns=columns)


def _measures(run: RunFolder) -> dict[tuple[str, str], float]:
    """(measure, questions) -> number."""
    found: dict[tuple[str, str], float] = {}
    for row in run.table("generalisation").to_dict("records"):
        for measure, column in _ACCURACIES:
            found[measure, row["questions"]] = float(row[column])
    for row in run.table("layers_needed").to_dict("records"):
        value = float("nan") if pd.isna(row["needed"]) else float(row["needed"])
        found[f"layers needed: {row['curve']} {row['scope']}", f"distance {row['distance']}"] = value
    circuit = run.table("circuit")
    for kind in ("head", "mlp"):
        found[f"circuit {kind}s", ""] = float((circuit["in_circuit"] & (circuit["kind"] == kind)).sum())
    faithful = run.table("faithfulness")
    for row in faithful[faithful["circuit"] == "found"].to_dict("records"):
        for measure in ("faithfulness", "completeness", "accuracy"):
            found[f"circuit {measure}", row["questions"]] = float(row[measure])
    found |= _heads(run.table("edge_heads"))
    neurons = run.table("neurons")
    for role in ROLES:
        for label in (*CLASSES, NONE):
            number = ((neurons["role"] == role) & (neurons["class"] == label)).sum()
            found[f"neurons of {label}", role] = float(number)
    return found


def _heads(table: pd.DataFrame) -> dict[tuple[str, str], float]:
    found = {}
    for name in table["questions"].unique():
        for query, _ in QUERIES:
            part = table[(table["questions"] == name) & (table["query"] == query)]
            if len(part):
                found[f"attention along edges: {query}", str(name)] = float(part["excess"].max())
                found[f"strongest cut: {query}", str(name)] = float(part["effect"].max())
    return found
