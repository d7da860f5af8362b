"""What the probe, neuron and head stages found, in sentences per operator, made from their tables and nothing else.

Each function takes the run's data and returns `(operator's title, sentence)` pairs; a table that is missing or empty
gives none. Numbers come with the number of prompts or neurons they are about.
"""

import numpy as np
import pandas as pd

from arithcirc.viz import theme
from arithcirc.viz.effects import head_names
from arithcirc.viz.frames import RunData, flags, has, numbers
from arithcirc.viz.probes import first_layer
from arithcirc.viz.theme import number, percent

Finding = tuple[str, str]

DECODED = 0.25
"""A part of the prompt is named as decodable from this accuracy above the base rate on."""

LOOKS = 0.5
"""A head is said to look at a position that gets at least this share of its attention."""


def probe_findings(data: RunData) -> list[Finding]:
    """From which layer on `=` holds the answer, and what the earlier positions hold."""
    if not has(data.tables, "probes", "operator", "layer", "position", "accuracy"):
        return []
    probes = data.tables["probes"]
    found = []
    for operator in theme.ordered(probes["operator"]):
        part = probes[probes["operator"] == operator]
        at_equals = part[part["position"] == "equals"].sort_values("layer")
        if at_equals.empty:
            continue
        best = at_equals.iloc[int(np.nanargmax(numbers(at_equals, ["accuracy"])[:, 0]))]
        base, n = numbers(at_equals, ["base_rate", "n"]).max(axis=0)
        text = f"At = the probe is best after layer {best['layer']}: {number(best['accuracy'])} of {n:.0f} held-out "
        text += f"prompts (base rate {number(base)})"
        first = first_layer(data.tables.get("first_layers"), operator)
        hit = at_equals[at_equals["layer"] == first]
        if not hit.empty:
            a, low, high = numbers(hit, ["accuracy", "low", "high"])[0]
            text += f"; the first layer that counts as reading the answer is {first}, with {number(a)} "
            text += f"(95% from {number(low)} to {number(high)})"
        before = part[part["position"] != "equals"]
        if not before.empty:
            top = before.iloc[int(np.nanargmax(numbers(before, ["accuracy"])[:, 0]))]
            where = theme.POSITION_LABELS.get(str(top["position"]), str(top["position"]))
            text += f". Before = the best is {number(top['accuracy'])}, at {where} after layer {top['layer']}"
        found.append((theme.operator_title(operator), f"{text}."))
    return found


def neuron_findings(data: RunData) -> list[Finding]:
    """How many neurons are kept and what that keeps, how the estimate ranks, what the operators share."""
    names = [t for t in ("neurons", "neuron_agreement", "neuron_faithfulness") if has(data.tables, t, "operator")]
    found = []
    for operator in theme.ordered(o for t in names for o in data.tables[t]["operator"].unique()):
        parts = {t: data.tables[t][data.tables[t]["operator"] == operator] for t in names}
        sentences = [_important(parts.get("neurons")), _kept(parts.get("neuron_faithfulness"))]
        sentences.append(_estimate(parts.get("neuron_agreement")))
        if text := " ".join(s for s in sentences if s):
            found.append((theme.operator_title(operator), text))
    if has(data.tables, "neuron_overlap", "operator", "other", "iou"):
        pairs = data.tables["neuron_overlap"]
        pairs = pairs[pairs["operator"] != pairs["other"]]
        iou, expected = numbers(pairs, ["iou", "expected"]).T
        if len(iou):
            text = f"Two operators share {number(np.nanmin(iou), 2)} to {number(np.nanmax(iou), 2)} of their important "
            text += f"neurons (intersection over union, {len(pairs)} rows of the table)"
            if np.isfinite(expected).any():
                text += f"; random sets of the same sizes would share about {number(np.nanmean(expected), 2)}"
            found.append(("Overlap", f"{text}."))
    return found


def _important(rows: pd.DataFrame | None) -> str | None:
    if rows is None or not {"method", "metric", "layer", "neuron", "effect", "important"} <= set(rows.columns):
        return None
    exact = rows[(rows["method"] == "exact") & (rows["metric"] == "logit_diff")]
    if exact.empty:
        return None
    chosen = exact[flags(exact, "important")]
    best = exact.sort_values("effect", ascending=False).iloc[0]
    text = f"Of {len(exact):,} neurons the strongest is L{best['layer']} N{best['neuron']} "
    text += f"(patching it alone costs {number(best['effect'], 2)} nats)"
    if chosen.empty:
        return f"{text}; none counts as important."
    layers = sorted(chosen["layer"].unique())
    span = f"layer {layers[0]}" if len(layers) == 1 else f"layers {layers[0]} to {layers[-1]}"
    return f"{text}; {len(chosen):,} in {span} count as important."


def _kept(rows: pd.DataFrame | None) -> str | None:
    """What the chosen number of neurons keeps, with every head and with the circuit's."""
    if rows is None or not {"ranking", "heads", "top", "faithfulness", "chosen", "set"} <= set(rows.columns):
        return None
    rows = rows[rows["set"] == "evaluate"] if (rows["set"] == "evaluate").any() else rows
    said = []
    for heads, name in (("all", "every head"), ("circuit", "the circuit’s heads")):
        part = rows[rows["heads"] == heads]
        chosen = part[flags(part, "chosen") & (part["ranking"] == "exact").to_numpy()]
        if not chosen.empty:
            said.append(f"with {name} {_against_random(chosen, part)}")
            n, top = numbers(chosen, ["n", "top"])[0]
    return f"The top {top:.0f} per layer keep, on {n:.0f} prompts, {'; '.join(said)}." if said else None


def _against_random(chosen: pd.DataFrame, rows: pd.DataFrame) -> str:
    f, sem = numbers(chosen, ["faithfulness", "faithfulness_sem"])[0]
    peers = rows[rows["top"] == chosen["top"].iloc[0]]
    estimate, random = (peers.loc[peers["ranking"] == r, "faithfulness"].dropna() for r in ("estimate", "random"))
    compared = [] if estimate.empty else [f"by the estimate {number(estimate.iloc[0])}"]
    if not random.empty:
        compared.append(f"at random {number(random.min())} to {number(random.max())} in {len(random)} draws")
    text = f"F = {number(f)} ± {number(sem)}" + (f" ({', '.join(compared)})" if compared else "")
    if not random.empty and f - 2 * np.nan_to_num(sem) <= random.max():
        text += ", within two standard errors of the best random draw, so here the ranking is no evidence"
    return text


def _estimate(rows: pd.DataFrame | None) -> str | None:
    if rows is None or rows.empty or not {"layer", "spearman", "overlap"} <= set(rows.columns):
        return None
    rho, overlap, expected, top = numbers(rows, ["spearman", "overlap", "expected", "top"]).T
    if not np.isfinite(rho).any():
        return None
    low, high = int(np.nanargmin(rho)), int(np.nanargmax(rho))
    layers = rows["layer"].tolist()
    text = (
        f"The estimate’s rank correlation with the exact effect goes from {number(rho[low], 2)} (layer {layers[low]}) "
    )
    text += f"to {number(rho[high], 2)} (layer {layers[high]})"
    if np.isfinite(overlap).any():
        k = f" {np.nanmin(top):.0f}" if np.isfinite(top).any() else ""
        text += f"; of the exact top{k} of a layer it finds at least {percent(np.nanmin(overlap))}"
    if np.isfinite(expected).any():
        text += f", chance {percent(np.nanmax(expected))}"
    return f"{text}."


def head_findings(data: RunData) -> list[Finding]:
    """Where the circuit's heads look, what is decodable from them, and which cut hurts."""
    names = [t for t in ("heads", "head_copies", "head_cuts") if has(data.tables, t, "operator")]
    found = []
    for operator in theme.ordered(o for t in names for o in data.tables[t]["operator"].unique() if o != "all"):
        parts = {t: data.tables[t][data.tables[t]["operator"] == operator] for t in names}
        sentences = [_looks(parts.get("heads")), _decoded(parts.get("head_copies")), _cuts(parts.get("head_cuts"))]
        if text := " ".join(s for s in sentences if s):
            found.append((theme.operator_title(operator), text))
    return found


def _looks(rows: pd.DataFrame | None) -> str | None:
    if rows is None or not {"layer", "head", "in_circuit", "position", "attention"} <= set(rows.columns):
        return None
    rows = rows[flags(rows, "in_circuit")]
    if rows.empty:
        return None
    total = len(set(head_names(rows)))
    strong = rows[rows["attention"] >= LOOKS].sort_values("attention", ascending=False)
    named = [
        f"{name} at {theme.POSITION_LABELS.get(str(p), str(p))} {number(a, 2)}"
        for name, p, a in zip(head_names(strong), strong["position"], strong["attention"], strict=True)
    ]
    more = f" and {len(named) - 8} more" if len(named) > 8 else ""
    text = f"Heads of the circuit with half or more of their attention on one position: {len(named)} of {total}"
    return f"{text} ({', '.join(named[:8])}{more})." if named else f"{text}."


def _decoded(rows: pd.DataFrame | None) -> str | None:
    if rows is None or not {"layer", "head", "in_circuit", "what", "accuracy", "base_rate"} <= set(rows.columns):
        return None
    rows = rows[flags(rows, "in_circuit")]
    if rows.empty:
        return None
    rows = rows.assign(name=head_names(rows), gain=rows["accuracy"] - rows["base_rate"])
    words = []
    for part, of_part in rows.groupby("what", sort=False):
        best = of_part.sort_values("gain", ascending=False).iloc[0]
        if best["gain"] >= DECODED:
            words.append(f"{part} best from {best['name']} ({number(best['accuracy'], 2)})")
        else:
            words.append(f"{part} from none (best {number(best['accuracy'], 2)})")
    return f"Decodable from a single head’s output: {', '.join(words)}."


def _cuts(rows: pd.DataFrame | None) -> str | None:
    if rows is None or not {"cut", "accuracy"} <= set(rows.columns):
        return None
    whole, cuts = rows[rows["cut"] == "none"], rows[rows["cut"] != "none"].sort_values("accuracy")
    if cuts.empty:
        return None
    worst, best = cuts.iloc[0], cuts.iloc[-1]
    n = numbers(rows, ["n"])[:, 0]
    start = f" from {number(whole['accuracy'].iloc[0], 2)}" if not whole.empty else ""
    text = f"Of {len(cuts)} cuts the worst is {arrow(str(worst['cut']))}: "
    text += f"accuracy falls{start} to {number(worst['accuracy'], 2)}"
    if len(cuts) > 1:
        text += f"; the mildest is {arrow(str(best['cut']))}, {number(best['accuracy'], 2)}"
    return f"{text} (n = {np.nanmin(n):.0f})." if np.isfinite(n).any() else f"{text}."


def arrow(cut: str) -> str:
    """`op2 <- op1` with a real arrow."""
    return cut.replace("<-", "←")


def number_findings(data: RunData) -> list[Finding]:
    """How many first-MLP neurons respond to single numbers by a heuristic."""
    if not has(data.tables, "number_neurons", "neuron", "heuristic"):
        return []
    rows = data.tables["number_neurons"]
    named = rows[rows["heuristic"].notna()]
    score, q = numbers(named, ["score", "q"]).T
    matched = score >= data.threshold if np.isfinite(score).any() else np.ones(len(named), dtype=bool)
    text = f"{int(matched.sum()):,} of {len(rows):,} neurons match a heuristic on the number alone "
    text += f"(score ≥ {data.threshold:g})"
    if np.isfinite(q).any():
        text += f", {int((matched & (q < data.level)).sum()):,} of them with q < {data.level:g}"
    return [("First MLP", f"{text}.")]
