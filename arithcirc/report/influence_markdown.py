"""An influence study as one Markdown page: the words and tables of the HTML page, and its figures as PNG files.

The words are the HTML page's own (`influence.content`), so the two cannot disagree. Choices of a selector, and texts of
documents beyond the first, stay with the HTML page.
"""

from typing import Any

from arithcirc.report import markdown as md
from arithcirc.report.influence import content
from arithcirc.report.markdown import MARKDOWN
from arithcirc.store import RunFolder
from arithcirc.viz.influence import names
from arithcirc.viz.influence.highlight import excerpt, shows
from arithcirc.viz.influence.plates import PLATES, read_study
from arithcirc.viz.influence.study import Study
from arithcirc.viz.theme import count, number, p_value, percent

__all__ = ["MARKDOWN", "render_markdown"]
DOCUMENTS = 3
"""Documents quoted of an example."""


def render_markdown(study: Study) -> str:
    """The page as text; writes its figures into the study's `figures/` where they can be drawn."""
    said = content(study, read_study(study))
    images, without = md.pictures(RunFolder.open(study.path), tuple(plate.key for plate in PLATES))
    parts = [f"# Which documents teach {md.escape(said['name'])} its answers", md.escape(said["headline"])]
    if without:
        parts.append(f"*Figures were left out: {md.escape(without)}*")
    for command, lacking in said["missing"]:
        parts.append(f"**This study is not complete.** Missing: {', '.join(lacking)}: {md.code(command)}")
    parts += ["## Summary", *_summary(said), *_material(said)]
    for number_, title, figures in said["sections"]:
        mine = [f for f in said["findings"] if f.number == number_]
        body = [_claims(f) for f in mine] + [line for name in figures for line in images.get(name, ())]
        if body:
            reading = [f"*How to read it.* {md.escape(said['how_to_read'][number_])}",
                       f"*What it does not show.* {md.escape(said['not_shown'][number_])}"]  # fmt: skip
            parts += [f"## {number_} · {md.escape(title)}", *body, *reading]
    parts += _examples(said) + _mechanisms(said, images)
    parts += ["## Methods", md.listing(f"**{what}.** {md.escape(text)}" for what, text in said["settings"])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _summary(said: dict[str, Any]) -> list[str]:
    """What is answered right first; what can be said; what cannot, with the reason."""
    parts = [
        f"**{md.escape(said['accuracy'])}**" if said["accuracy"] else "",
        md.escape(said["in_short"]),
        md.escape(said["levels"]),
    ]
    parts.append(md.escape(said["together"]))
    reasons = [md.escape(f"{reason}: {claims}.") for reason, claims in said["unsayable"]]
    return [*parts, *(["Cannot be said here:", md.listing(reasons)] if reasons else [])]


def _claims(finding: Any) -> str:
    rows = [
        (
            md.escape(c.text) + (f" *{md.escape(note)}*" if note else ""),
            f"**{md.escape(c.verdict)}**",
            md.escape(c.numbers),
            md.escape(c.base_rate),
        )
        for c, note in finding.noted
    ]
    return md.table(("claim", "here", "numbers", "against"), rows, left=4)


def _material(said: dict[str, Any]) -> list[str]:
    rows = [
        (_who(r), str(r["queries"]), str(r["right"]), percent(r["share"]), *_known(r), number(r["nats"], 2))
        for r in said["answered"]
    ]
    parts = ["## Model and corpus"]
    if rows:
        parts.append(md.table(("queries", "asked", "right", "share", "chance", "p", "every step", "nats"), rows))
    for title, held in said["corpus"]:
        if held:
            kinds = [(md.escape(r["name"]), count(r["documents"]), percent(r["share"])) for r in held[:20]]
            parts.append(md.table((title, "documents", "share"), kinds))
    return parts


def _who(row: dict[str, Any]) -> str:
    """A group, or one of its tasks."""
    text = f"– {row['task']}{' (at chance)' if row['at_chance'] else ''}" if row["task"] else row["group"]
    return md.escape(text)


def _known(row: dict[str, Any]) -> tuple[str, str, str]:
    """Chance, p and completions with every step right, as far as they are known."""
    chance, p, steps = row["chance"], row["p"], row["steps"]
    said = ("–" if chance is None else percent(chance), "–" if p is None else p_value(p))
    return *said, "–" if steps is None else str(steps)


def _examples(said: dict[str, Any]) -> list[str]:
    parts = ["## Examples"] if said["examples"] else []
    for e in said["examples"]:
        parts.append(f"**{md.escape(e['group'])}** {md.code(e['prompt'])} → {md.code(e['completion'])} {e['mark']}")
        parts.append(_documents(e["documents"][:DOCUMENTS]))
    return parts


def _mechanisms(said: dict[str, Any], images: dict[str, list[str]]) -> list[str]:
    if not said["mechanisms"]:
        return []
    rows = [
        (md.escape(m["title"]), md.escape(m["heuristic"]), number(m["value"]), *_obeying(m)) for m in said["mechanisms"]
    ]
    head = ("mechanism", "heuristic", "contrast", "AUC of obeying documents", "95%", "by other mechanisms")
    parts = ["## Mechanisms", *[_claims(f) for f in said["ours"]]]
    parts.append(md.table(head, rows, left=2))
    return parts + [line for n in ("influence_mechanism_kinds", "influence_births") for line in images.get(n, ())]


def _obeying(mechanism: dict[str, Any]) -> tuple[str, str, str]:
    held, (low, high) = mechanism["obeying"], mechanism["interval"]
    if not held:
        return "–", "–", "–"
    return number(held["auc"], 2), f"{number(low, 2)} to {number(high, 2)}", number(held["auc_others"], 2)


def _documents(rows: list[Any]) -> str:
    lines = []
    for d in rows:
        text = "".join(piece.text for piece in excerpt(d.pieces, longest=240))
        held = f" (holds {', '.join(shows(need) for need in d.hits)})" if d.hits else ""
        about = f"{names.score(d.score)}, {names.kind(d.kind)}, {d.source or 'no source'}{held}"
        lines.append(f"{d.rank}. {md.escape(about)}: {md.code(text)}")
    return "\n".join(lines)
