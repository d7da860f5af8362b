"""A sweep as one Markdown page: the words and the small tables of the HTML page, and its main figures as PNG files.

Figures show what the HTML page shows first: prompts shared with the reference, and its first kind of label.
"""

from typing import Any

from arithcirc.catalogue import SweepFolder
from arithcirc.report import markdown as md
from arithcirc.report.sweep_page import content
from arithcirc.viz.emergence.data import read_sweep
from arithcirc.viz.emergence.plates import stems
from arithcirc.viz.theme import count, number

MAPS = "maps"
"""Has a file per position: only that of the heads at `=` is shown."""
_SECTIONS = {
    "Accuracy": ("accuracy", ("accuracy",)),
    "(a) Were the final heuristics there early?": ("overlap", ("overlap",)),
    "(b) Do the neurons kept suffice?": ("kept", ("kept_faithfulness",)),
    "(c) Does accuracy rest on them?": ("knockouts", ("knockouts",)),
    "Circuits over training": ("circuits", ("circuits",)),
    "Where, at the reference": ("", (MAPS,)),
    "Which families, when": ("", ("families",)),
    "Births and deaths": ("births", ("births", "birth_raster")),
    "Does accuracy jump at a birth?": ("jumps", ("jumps",)),
}
"""Title -> which findings, which figures."""
_GLANCE = {
    "checkpoints with a circuit": "done", "accuracy": "accuracy", "held out": "accuracy_held_out",
    "base rate": "base_rate", "heads": "heads", "F": "faithfulness", "important neurons": "important",
    "pairs (significant)": "pairs_significant", "pairs (matched)": "pairs_matched",
}  # fmt: skip
_STEPS = {
    "accuracy": "accuracy", "held out": "accuracy_held_out", "heads": "heads", "F": "faithfulness",
    "F, random": "random_faithfulness", "important": "important", "pairs (significant)": "pairs_significant",
}  # fmt: skip
_WHOLE = {"done", "heads", "important", "pairs_significant", "pairs_matched"}


def render_markdown(folder: SweepFolder) -> str:
    """The page as text; writes its figures into the sweep's `figures/` where they can be drawn."""
    data = read_sweep(folder)
    said = content(folder, data)
    asked = [name for _, names in _SECTIONS.values() for name in names if name != MAPS]
    at_equals = stems(data, MAPS, "equals")
    images, without = md.pictures(folder, (*asked, *at_equals))
    images[MAPS] = [line for stem in at_equals for line in images.get(stem, ())]
    parts = [f"# How {md.escape(said['name'])} came to calculate", md.escape(said["headline"])]
    if without:
        parts.append(f"*Figures were left out: {md.escape(without)}*")
    if said["missing"]:
        lacking = md.escape(", ".join(said["missing"]))
        parts.append(f"**This sweep does not hold everything.** Missing: {lacking}. "
                     f"All of it, in a folder of its own: {md.code(said['commands']['births'])}")  # fmt: skip
    parts += ["## Summary", *_summary(said)]
    for title, (key, figures) in _SECTIONS.items():
        found = [f"**{md.escape(who)}.** {md.escape(text)}" for who, text in said["findings"].get(key, ())]
        body = [md.listing(found), *(line for name in figures for line in images.get(name, ()))]
        body += [md.escape(text) for text in _captions(said, figures) if any(body)]
        parts += [f"## {md.escape(title)}", *body] if any(body) else []
    return "\n\n".join(part for part in [*parts, *_tables(said), *_made(said)] if part) + "\n"


def _captions(said: dict[str, Any], figures: tuple[str, ...]) -> list[str]:
    """What is said below a section's figures."""
    said_below = [said["last_before"]] if "overlap" in figures else []
    return [text for text in [*said_below, *(said["undrawn"].get(name, "") for name in figures)] if text]


def _summary(said: dict[str, Any]) -> list[str]:
    rows = [[md.escape(v.title), *(md.escape(f"{a.word} {a.number}") for a in v.answers)] for v in said["verdicts"]]
    parts = [md.table(["operator", *said["questions"]], rows, left=1 + len(said["questions"]))] if rows else []
    details = [
        f"**{md.escape(v.title)}, {md.escape(a.question)}** {md.escape(a.detail)}"
        for v in said["verdicts"]
        for a in v.answers
        if a.detail
    ]
    parts.append(md.listing(details))
    parts.append(
        f"Numbers in words: prompts {said['prompts']['shared']}, {said['labels']} labels, unless said otherwise."
    )
    glance = [[md.escape(g["title"]), *(_cell(g, key) for key in _GLANCE.values())] for g in said["glance"]]
    parts += ["### At the reference", md.table(["operator", *_GLANCE], glance)] if glance else []
    lost = [[md.escape(t[k]) for k in ("title", "checkpoint", "status", "reason")] for t in said["troubles"]]
    columns = ["operator", "checkpoint", "task", "reason"]
    parts += ["### Checkpoints without a circuit", md.table(columns, lost, left=4)] if lost else []
    return parts


def _cell(row: dict[str, Any], key: str) -> str:
    return count(row.get(key)) if key in _WHOLE else number(row.get(key))


def _tables(said: dict[str, Any]) -> list[str]:
    rows = [
        [md.escape(s["title"]), md.escape(s["checkpoint"]), *(_cell(s, key) for key in _STEPS.values())]
        for s in said["steps"]
    ]
    left = said["steps_total"] - len(said["steps"])
    more = f"and {left} more in tables/steps.parquet" if left else ""
    return ["## Step by step", md.table(["operator", "checkpoint", *_STEPS], rows, left=2), more] if rows else []


def _made(said: dict[str, Any]) -> list[str]:
    rows = [[md.escape(f"{s}.{k}"), md.escape(v)] for s, found in said["settings"].items() for k, v in found]
    rows = [[md.escape(k), md.escape(v)] for k, v in said["how"]] + rows
    versions = ", ".join(f"{md.escape(k)} {md.escape(v)}" for k, v in said["packages"].items())
    parts = ["## How it was made", md.block(said["command"]), md.table(["setting", ""], rows, left=2)]
    return [*parts, f"Versions: {versions}." if versions else "", f"Made {md.escape(said['created'])}."]
