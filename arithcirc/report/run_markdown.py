"""A run as one Markdown page: the words and the small tables of the HTML page, and its main figures as PNG files.

The words are the HTML page's own (`run_page.content`), so the two cannot disagree. Maps, galleries and the choices of a
selector stay with the HTML page.
"""

from typing import Any

from arithcirc.report import markdown as md
from arithcirc.report.run_page import content, page_data
from arithcirc.store import RunFolder
from arithcirc.viz.theme import count, number, operator_title

_SECTIONS = {
    "Where": ("heads_logit_diff_equals", "mlps_logit_diff", "head_carriers"),
    "Is it enough: faithfulness": ("faithfulness",),
    "Probes": ("probes_at_equals",),
    "Neurons": ("neuron_effects", "neuron_faithfulness"),
    "Heads: attention and what they bring": ("head_attention", "head_cuts"),
    "Heuristics": ("labelled", "families"),
    "Ablations": ("knockout_means", "knockouts_by_prompt"),
    "Failures": ("failures",),
}
_FINDINGS = {
    "Probes": "probe", "Neurons": "neurons", "Heads: attention and what they bring": "heads", "Heuristics": "labels",
    "Ablations": "knockouts", "Failures": "failures",
}  # fmt: skip


def render_markdown(run: RunFolder) -> str:
    """The page as text; writes its figures into the run's `figures/` where they can be drawn."""
    data, target = page_data(run)
    said = content(run, data, target)
    names = tuple(name for group in _SECTIONS.values() for name in group)
    images, without = md.pictures(run, names)
    revision = f", revision {md.escape(said['revision'])}" if said["revision"] else ""
    parts = [f"# The arithmetic circuit of {md.escape(said['name'])}{revision}", md.escape(said["headline"])]
    if without:
        parts.append(f"*Figures were left out: {md.escape(without)}*")
    if said["missing"]:
        lacking = "; ".join(f"{', '.join(names)} ({md.code(stage)})" for stage, names in said["missing"])
        parts.append(f"**This run is not complete.** Missing: {lacking}. All at once: {md.code(said['whole_line'])}")
    parts += ["## Summary", *_summary(said), "## Accuracy", *_accuracy(said)]
    for title, figures in _SECTIONS.items():
        body = [*_found(said, title), *(line for name in figures for line in images.get(name, ()))]
        body += _circuits(said) if title == "Is it enough: faithfulness" else []
        parts += [f"## {title}", *body] if body else []
    return "\n\n".join(part for part in [*parts, *_made(said)] if part) + "\n"


def _summary(said: dict[str, Any]) -> list[str]:
    from arithcirc.viz.words import sentences

    rows = [f"**{md.escape(s.title)}.** {md.escape(' '.join(sentences(s)))}" for s in said["summaries"]]
    parts = [md.listing(rows) or "No table names an operator yet, so there is nothing to sum up."]
    if said["verdicts"]:
        names = [md.escape(p.name) for p in said["verdicts"][0].predictions]
        lines = []
        for v in said["verdicts"]:
            cells = [p.word if p.holds is None else f"{p.word}, {p.statistic}" for p in v.predictions]
            lines.append([md.escape(v.title), v.word, *map(md.escape, cells)])
        table = md.table(["operator", "verdict", *names], lines, left=len(names) + 2)
        parts += ["### Does the bag of heuristics hold?", table]
    return parts


def _accuracy(said: dict[str, Any]) -> list[str]:
    rows = [
        [md.escape(s.title), count(a.n), count(a.correct), number(a.accuracy), number(a.base_rate)]
        for s in said["summaries"]
        if (a := s.accuracy)
    ]
    parts = [md.table(["operator", "prompts tried", "correct", "accuracy", "base rate"], rows)] if rows else []
    if said["prompt_rows"]:
        prompts = [
            [operator_title(r["operator"]), str(r["discover"]), str(r["evaluate"]), md.code(r["example"]),
             md.code(r["counterfactual"])]
            for r in said["prompt_rows"]
        ]  # fmt: skip
        columns = ["operator", "to discover", "to evaluate", "a prompt", "a counterfactual"]
        parts.append(md.table(columns, prompts))
    return parts


def _circuits(said: dict[str, Any]) -> list[str]:
    rows = []
    for s in said["summaries"]:
        for prompt_set, f in (("discover", s.discover), ("evaluate", s.evaluate)):
            if f:
                cells = [number(v) for v in (f.faithfulness, f.sem, f.probability, f.accuracy, f.kl)]
                rows.append([md.escape(s.title), prompt_set, str(f.n_heads), str(f.n), str(f.undefined), *cells])
    columns = ["operator", "prompts", "heads", "n", "undefined", "F", "± s.e.", "probability", "accuracy", "KL (nats)"]
    return [md.table(columns, rows, left=2)] if rows else []


def _found(said: dict[str, Any], title: str) -> list[str]:
    rows = said["findings"].get(_FINDINGS.get(title, ""), ())
    return [md.listing(f"**{md.escape(who)}.** {md.escape(text)}" for who, text in rows)]


def _made(said: dict[str, Any]) -> list[str]:
    config = [[md.escape(f"{s}.{k}"), md.escape(v)] for s, rows in said["config"].items() for k, v in rows]
    versions = ", ".join(f"{md.escape(k)} {md.escape(v)}" for k, v in said["packages"].items())
    line = said["recorded"] or said["whole_line"]
    parts = ["## How it was made", md.block(line), md.table(["configuration", ""], config, left=2)]
    return [*parts, f"Versions: {versions}." if versions else "", f"Made {md.escape(said['created'])}."]
