"""What an address asks for and does not get, in one line: an unknown operator, checkpoint or parameter.

A link that shows another thing than it says would be worse than an error, so the page says what is shown instead and
the browser rewrites the address (`settled` with only what the page knows).
"""

from collections.abc import Mapping
from dataclasses import replace

from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View
from arithcirc.viz import theme

TAKES: Mapping[str, tuple[str, ...]] = {
    "overview": ("position", "change", "metric", "labels"),
    "neurons": ("q", "layer", "family", "shown", "operators", "sort", "filter"),
    "neuron": ("layer", "neuron", "label", "order", "zoom", "map", "ablation", "n"),
    "prompt": ("prompt", "with", "labels", "target", "steps", "off", "ablation", "seed"),
    "heuristics": ("label", "family", "ablation", "q", "zoom"),
    "heads": ("layer", "head", "prompt"),
    "documents": ("query", "method", "end", "n", "what"),
    "sweep": ("across", "prompts", "labels", "scale", "rows", "where"),
    "compare": (
        "with", "with_model", "with_revision", "with_op", "position", "change", "metric", "by", "labels",
    ),
}  # fmt: skip
"""Parameters by page, beside run, model, revision and op."""
LONGEST, MOST = 40, 4


def settled(view: View, source: Source) -> View:
    """The view with its run, checkpoint and operator named, defaults filled in."""
    at = source.checkpoint
    op = view.op if view.op in source.operators else next(iter(source.operators), "")
    return View(view.page, source.key, at.model if at else "", at.revision if at else "", op, view.choices)


def known(view: View) -> View:
    """The view with only those parameters that its page takes."""
    takes = TAKES.get(view.page, tuple(view.choices))
    return replace(view, choices={name: text for name, text in view.choices.items() if name in takes})


def missing(view: View, source: Source) -> str:
    """One line about what the address names and this source or page does not have; empty when all of it is shown."""
    at, asked, instead = source.checkpoint, [], []
    if view.op and view.op not in source.operators:
        asked.append(f"operator {_cut(view.op)}")
        instead += [theme.operator_title(o) for o in source.operators[:1]]
    if view.model and (at is None or view.model != at.model):
        asked.append(f"model {_cut(view.model)}")
        instead += [at.model] if at else []
    if view.revision and (at is None or at.revision not in (view.revision, f"step{view.revision}")):
        asked.append(f"checkpoint {_cut(view.revision)}")
        instead += [at.revision] if at else []
    strange = [name for name in view.choices if name not in known(view).choices]
    many = f" and {len(strange) - MOST} more" if len(strange) > MOST else ""
    words = [f"{_cut(name)} = {_cut(view.choices[name])}" for name in strange[:MOST]]
    has = f"this {'sweep' if source.sweep else 'run'} does not have"
    said = []
    if asked:
        shown = ", ".join(dict.fromkeys(instead)) or source.title
        said.append(f"The address asks for {' and '.join(asked)}, which {has}; shown is {shown}.")
    if words:
        said.append(f"The address gives {', '.join(words)}{many}, which page {view.page.title()} does not know.")
    return " ".join(said)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def first_analysed(view: View, source: Source) -> str | None:
    """Where this checkpoint of a sweep has no circuit for the operator: the first revision that has one."""
    at = source.checkpoint
    if at is None or view.page == "sweep" or not source.has("tasks"):
        return None
    tasks = source.table("tasks")
    mine = tasks[(tasks["model"] == at.model) & (tasks["operator"] == view.op) & (tasks["status"] == "done")]
    done = set(mine["revision"].astype(str))
    if at.revision in done:
        return None
    return next((c.revision for c in source.checkpoints if c.model == at.model and c.revision in done), None)
