"""The overview in words: how the model gets from a prompt to an answer, and what this run could not say.

`story` tells one operator in steps a newcomer can follow, each with a number from a table and the page that shows more;
what a table does not hold is left out, and what does not hold is said not to hold. `limits` lists what is missing.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from arithcirc.viz.commands import MADE_BY
from arithcirc.viz.frames import flags, has
from arithcirc.viz.operator_facts import Facts, Tables
from arithcirc.viz.summary import carriers
from arithcirc.viz.theme import number, p_value, percent
from arithcirc.viz.verdicts import PREDICTIONS, by_kind

_THE = {"operator": "the operator"}
VERBS = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide"}
NOT_IN_SWEEPS = {
    "heads": ("heads", "head_copies", "head_cuts"),
    "knockout": ("knockouts_by_heuristic", "bag_of_heuristics"),
    "failures": ("failures", "failure_tests"),
    "maps": ("maps",),
}
"""Stages a sweep leaves out, with tables that would tell."""


@runtime_checkable
class Links(Protocol):
    """Where the pages are: an address of the explorer, or the files of a static export."""

    def url(self, page: str | None = None, **changes: Any) -> str:
        """The address of a page, with its parameters; "" where there is no such page."""


@dataclass(frozen=True)
class Step:
    """One step: a claim, what supports it, and where to see more."""

    claim: str
    text: str
    href: str = ""
    more: str = ""


@dataclass(frozen=True)
class Limit:
    """One thing that was not found or not done; `command` changes it."""

    what: str
    text: str
    command: str = ""


def story(view: Links, source: Tables, facts: Facts) -> list[Step]:
    """The steps of one operator, in the order of the computation."""
    steps = [
        _can(view, facts),
        _heads(view, source, facts),
        _probe(facts),
        _neurons(view, source, facts),
        _break(view, facts),
    ]
    return [step for step in steps if step is not None]


def _can(view: Links, facts: Facts) -> Step | None:
    summary, verb = facts.summary, VERBS.get(facts.operator, "answer")
    if summary is None or summary.accuracy is None:
        return None
    a = summary.accuracy
    claim = f"It can {verb}." if a.knows else f"It cannot {verb}."
    base = "" if a.base_rate is None else f"; always saying the most frequent answer would get {percent(a.base_rate)}"
    text = f"{a.correct:,} of {a.n:,} prompts are answered correctly ({percent(a.accuracy)}{base})."
    return Step(claim, text, view.url("prompt"), "Ask it a prompt")


def _heads(view: Links, source: Tables, facts: Facts) -> Step | None:
    summary = facts.summary
    found = None if summary is None else summary.evaluate or summary.discover
    if summary is None or found is None or not np.isfinite(found.faithfulness):
        return None
    many = f"{found.n_heads} of {summary.total_heads} heads"
    f, answers = number(found.faithfulness), np.isfinite(found.accuracy)
    kept_most = found.faithfulness >= summary.target
    claim = f"{many[0].upper()}{many[1:]} {'keep' if kept_most else 'miss the target with'} F = {f}"
    if answers:
        claim += f" {'and' if found.accuracy >= 0.9 or not kept_most else 'but'} answer {percent(found.accuracy)}"
    claim += "."
    if summary.whole_model:
        claim = "No part of the model is enough."
    kept = (
        f"With {many} and the MLPs kept and every other head replaced by its mean, the answer’s lead is {f} of the "
        "whole model’s (faithfulness F, a ratio of logits)"
    )
    kept += "" if kept_most else f", which misses the target of {summary.target:g}"
    held_out = "held-out prompts" if summary.evaluate is not None else "prompts"
    kept += f", and {percent(found.accuracy)} of {found.n} {held_out} are answered correctly" if answers else ""
    if summary.whole is not None and np.isfinite(summary.whole.accuracy) and answers:
        kept += f" (whole model {percent(summary.whole.accuracy)})"
    if summary.random is not None:
        kept += f"; as many heads drawn at random keep F = {number(summary.random.mean)} on average"
    brought = _brought(source, facts.operator)
    return Step(claim, f"{kept}.{brought}", view.url("heads"), "Heads")


def _brought(source: Tables, operator: str) -> str:
    """Which heads bring which part of the prompt to `=`, by patching effects."""
    if not source.has("effects"):
        return ""
    held = {part: heads[:2] for part, heads in carriers(source.table("effects", operator)).items() if heads}
    said = [
        f"{_THE.get(part, part)} by {' and '.join(f'{h.head} ({number(h.mean, 1)} nats)' for h in held[part])}"
        for part in held
    ]
    return f" By patching effect, “=” gets {'; '.join(said)}." if said else ""


def _probe(facts: Facts) -> Step | None:
    row = facts.first_layer
    if row is None:
        return None
    text = (
        f"A linear probe reads the answer from the residual stream at “=” with accuracy {number(row['accuracy'], 2)} "
        f"after layer {int(row['layer'])} and {number(row['best'], 2)} at best (base rate {number(row['base_rate'])}): "
        "it can be read there, which is not yet that it is used."
    )
    return Step(f"The answer appears from layer {int(row['layer'])} on.", text)


def _neurons(view: Links, source: Tables, facts: Facts) -> Step | None:
    row = facts.labels
    if row is None:
        return None
    total = max(int(row["important"]), 1)
    share = int(row["significant"]) / total
    claim = f"{percent(share)} of the neurons tested have a significant label."
    text = (
        f"{int(row['significant']):,} of {total:,} {_important(source)} are strongest where a simple rule about op1, "
        f"op2 or the result holds (a label: score ≥ {facts.threshold:g} on the neuron’s strongest prompts, more than "
        f"chance explains, q < {facts.level:g}). What a neuron does elsewhere its label does not say"
    )
    example = example_label(source, facts.operator)
    if example is not None:
        text += (
            f". L{example['layer']}N{example['neuron']}, for one, is strongest when {example['heuristic']} "
            f"(score {number(example['score'], 2)}; chance {number(example['base_rate'], 2)})"
        )
        where = {"layer": int(example["layer"]), "neuron": int(example["neuron"])}
        href = view.url("neuron", **where, label=example["heuristic"])
        return Step(claim, f"{text}.", href, f"See L{where['layer']}N{where['neuron']}")
    return Step(claim, f"{text}.", view.url("heuristics"), "Heuristics")


def _important(source: Tables) -> str:
    """Which neurons were given labels."""
    return "neurons important here or at the reference checkpoint" if source.sweep else "important neurons"


def example_label(source: Tables, operator: str) -> pd.Series | None:
    """The best corrected label of a strong neuron that names a residue, a pattern or a range."""
    if not (source.has("heuristics") and source.has("neurons")):
        return None
    labels = source.table("heuristics", operator)
    labels = labels[flags(labels, "significant") & labels["family"].isin(["modulo", "range", "pattern"]).to_numpy()]
    neurons = source.table("neurons", operator)
    neurons = neurons[(neurons["method"] == "exact") & (neurons["metric"] == "logit_diff")]
    both = labels.merge(neurons[["layer", "neuron", "effect"]], on=["layer", "neuron"])
    if both.empty:
        return None
    worth = both["effect"].clip(lower=0) * (both["score"] - both["base_rate"])
    best: pd.Series[Any] = both.iloc[int(worth.to_numpy().argmax())]
    return best


def _break(view: Links, facts: Facts) -> Step | None:
    found = facts.by_prompt
    if found is None:
        return None
    gap = found["random"] - found["targeted"]
    significant = np.isfinite(found["p"]) and found["p"] < 0.01
    claim = "Breaking them by prompt costs answers." if significant and gap > 0 else "Breaking them is no proof yet."
    verdict = by_kind(facts.predictions)
    if verdict:
        claim = f"The bag of heuristics {verdict}."
    text = (
        f"With the neurons of the heuristics that a prompt satisfies set to zero (at most {found['per_layer']:.0f} per "
        f"layer, {found['neurons']:.0f} on average) accuracy is {number(found['targeted'], 2)}; with as many random "
        f"important neurons {number(found['random'], 2)} ({found['n']:.0f} prompts answered correctly before"
    )
    text += f", McNemar p = {p_value(found['p'])})." if np.isfinite(found["p"]) else ")."
    if np.isfinite(found.get("mean", np.nan)):
        text += f" Replaced by their means instead of zero: {number(found['mean'], 2)}."
    tested = [p.holds for p in facts.predictions if p.holds is not None]
    if tested:
        text += f" Of the {len(tested)} tested predictions of the bag of heuristics {sum(tested) or 'none'} "
        text += "hold." if sum(tested) > 1 else "holds."
        text += _by_heuristic(facts)
    return Step(claim, text, view.url("heuristics"), "Heuristics")


def _by_heuristic(facts: Facts) -> str:
    """What zeroing one heuristic's neurons does in and out of it, where that was tested and does not hold."""
    found = next((p for p in facts.predictions if p.name == PREDICTIONS["in_vs_out"]), None)
    if found is None or found.holds is not False:
        return ""
    return f" Heuristic by heuristic: {found.detail}."


def limits(source: Tables, facts: Facts) -> list[Limit]:
    """What this run could not say about the operator."""
    found = [*_missing(source, facts.operator), *_notes(facts)]
    return [*found, *_weak(source, facts)]


def _missing(source: Tables, operator: str) -> list[Limit]:
    broken = [Limit(f"{name}.parquet is damaged", "what it holds is left out", source.command(name))
              for name in MADE_BY if source.damaged(name)]  # fmt: skip
    if source.sweep:
        absent = [stage for stage, tables in NOT_IN_SWEEPS.items() if not any(source.has(t) for t in tables)]
        at = source.checkpoint
        text = f"a sweep does not run {', '.join(absent)}; one checkpoint analysed by itself has them"
        model, revision = source.model.get("name", at.model if at else ""), at.revision if at else ""
        line = f"arithcirc analyze {model} --revision={revision}"
        return [*broken, Limit("Not part of a sweep", text, line)] if absent else broken
    lacking: dict[str, list[str]] = {}
    for table, stage in MADE_BY.items():
        if not source.has(table) and not source.damaged(table) and table not in ("maps", "undefined"):
            lacking.setdefault(stage, []).append(table)
    limits = broken + [Limit(f"No {', '.join(names)}", f"stage {stage} has not run", source.command(names[0]))
                       for stage, names in lacking.items()]  # fmt: skip
    if "heuristics" not in lacking and source.maps(operator) is None:
        limits.append(
            Limit("No stored activation maps", "neurons are drawn by the live model only", source.command("maps"))
        )
    return limits


def _notes(facts: Facts) -> list[Limit]:
    summary = facts.summary
    if summary is None:
        return []
    found = []
    if summary.skipped:
        found.append(Limit("Operator skipped", f"{summary.skipped.rstrip('.')}."))
    if summary.note:
        found.append(Limit("Prompts", f"{summary.note.rstrip('.')}."))
    if summary.reached is False and summary.evaluate is not None:
        f = number(summary.evaluate.faithfulness, 2)
        found.append(Limit("Circuit", f"F = {f} misses the target of {summary.target:g}: more than it is at work."))
    if summary.beats_random is False:
        found.append(Limit("Ranking of heads", "the best random circuit does as well, so the ranking is no evidence."))
    best = summary.evaluate or summary.discover
    if best is not None and best.undefined:
        total = best.n + best.undefined
        found.append(Limit("Undefined prompts", f"F is undefined on {best.undefined} of {total} prompts; left out."))
    return found


def _weak(source: Tables, facts: Facts) -> list[Limit]:
    found = []
    if facts.labels is not None and int(facts.labels["unlabelled"]):
        many, total = int(facts.labels["unlabelled"]), int(facts.labels["important"])
        text = f"{many:,} of {total:,} {_important(source)} match no heuristic that chance does not explain."
        found.append(Limit("Neurons without a label", text))
    for prediction in facts.predictions:
        if prediction.holds is False:
            found.append(Limit(f"Does not hold: {prediction.name}", f"{prediction.detail}."))
        elif prediction.holds is None:
            found.append(Limit(f"Not tested: {prediction.name}", f"{prediction.detail}."))
    if facts.by_prompt is not None and facts.by_prompt["n"] < 100:
        n = facts.by_prompt["n"]
        found.append(
            Limit("Few prompts", f"ablation by prompt rests on {n:.0f} prompts: a share is known to ± {_half(n)}.")
        )
    data = source.data("failure_tests")
    if has(data.tables, "failure_tests", "operator", "note"):
        tests = data.tables["failure_tests"]
        notes = tests.loc[tests["operator"] == facts.operator, "note"].dropna().unique()
        found += [Limit("Failures", f"{str(note).rstrip('.')}.") for note in notes[:1] if str(note)]
    return found


def _half(n: float) -> str:
    """Half the width of a 95% interval of a share of one half."""
    return number(0.98 / np.sqrt(n), 2)
