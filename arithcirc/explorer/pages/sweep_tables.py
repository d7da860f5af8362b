"""The tables of the Sweep page: the three answers per operator, the checkpoints, and how the tasks ended."""

from typing import Any

import dash_mantine_components as dmc
import pandas as pd
from dash import html

from arithcirc.explorer import kit
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View
from arithcirc.viz import theme
from arithcirc.viz.emergence.data import SweepData
from arithcirc.viz.emergence.summary import QUESTIONS, table_rows, troubles, unfinished, verdict_rows
from arithcirc.viz.emergence.words import title

SHORT = {"early": "final ones early?", "carried": "carry accuracy?", "rival": "a rival early on?"}
TAGS = {"good": "teal", "miss": "orange", "plain": "gray"}
_NUMBER = {"function": "params.value == null ? '–' : d3.format('.3f')(params.value)"}
_TENTHS = {"function": "params.value == null ? '–' : d3.format(',.1f')(params.value)"}
_COUNT = {"function": "params.value == null ? '–' : d3.format(',')(params.value)"}
_STEPS = (
    ("checkpoint", "step", None),
    ("accuracy", "accuracy", _NUMBER),
    ("accuracy_held_out", "held out", _NUMBER),
    ("faithfulness", "F", _NUMBER),
    ("heads", "heads", _COUNT),
    ("important", "important", _COUNT),
    ("labelled_significant", "labelled", _COUNT),
    ("pairs_significant", "pairs", _COUNT),
)
"""Column of table `steps`, what it is called, its format."""
_WIDTHS = {"checkpoint": 96, "accuracy": 88, "accuracy_held_out": 86, "important": 96, "labelled_significant": 86}
_EXPLAINED = {
    "accuracy": "share of all legal prompts answered correctly",
    "accuracy_held_out": "share of prompts kept out of training answered correctly",
    "faithfulness": "faithfulness of the circuit on prompts it was not chosen on",
    "heads": "heads in the circuit",
    "important": "important neurons, by exact effect",
    "labelled_significant": "important neurons with a significant label",
    "pairs_significant": "(neuron, heuristic) pairs that are significant",
}


def verdict(view: View, data: SweepData) -> Any:
    """Questions by operator as coloured words; the sentences of this operator below."""
    rows = verdict_rows(data)
    if not rows:
        return kit.small("This sweep has no table 'verdict': its stages end before the heuristics.")
    model = view.model or data.models[0].name
    titles = {title(data, model, o): o for o in data.operators}
    head = html.Tr([html.Th("operator"), *(html.Th(SHORT[q], title=text) for q, text in QUESTIONS.items())])
    body, said = [], []
    for row in rows:
        operator = titles.get(row.title)
        name: Any = kit.link(row.title, view.url(op=operator)) if operator else row.title
        cells = [
            html.Td([_tag(a.word, a.tag), " ", html.Small(a.number, className="under")], title=a.detail)
            for a in row.answers
        ]
        body.append(html.Tr([html.Td(name), *cells], className="at-operator" if operator == view.op else None))
        if operator == view.op:
            said = [dmc.Text([html.B(f"{a.question} {a.word[:1].upper()}{a.word[1:]}. "), a.detail], size="sm", mt=6)
                    for a in row.answers]  # fmt: skip
    return html.Div([html.Table([html.Thead(head), html.Tbody(body)], className="plain"), *said])


def _tag(word: str, tag: str) -> Any:
    return dmc.Badge(word, color=TAGS.get(tag, "gray"), variant="light", size="sm", tt="none")


def checkpoints(source: Source, data: SweepData, operator: str) -> Any:
    """One row per checkpoint; the one shown is marked."""
    model = source.checkpoint.model if source.checkpoint is not None else ""
    rows = [r for r in table_rows(data, "steps", operator=operator, prompts="own") if r.get("model") == model]
    axis = data.model(model).axis
    held = {str(r["revision"]): r for r in rows}
    names = [name for name, _, _ in _STEPS if name == "checkpoint" or any(_known(r.get(name)) for r in rows)]
    frame = pd.DataFrame(
        [
            {name: _plain(held.get(revision, {}).get(name)) for name in names}
            | {"checkpoint": label, "revision": revision, "place": place}
            for place, (revision, label) in enumerate(zip(axis.revisions, axis.labels, strict=True))
        ]
    ).astype(object)
    here = source.checkpoint.revision if source.checkpoint is not None else ""
    columns = [_column(name, shown, form) for name, shown, form in _STEPS if name in names]
    return kit.grid(
        frame, columns, id="sweep-checkpoints", name=f"checkpoints_{theme.OPERATOR_NAMES.get(operator, 'all')}",
        height=min(430, 36 + 28 * max(len(frame), 4)),
        getRowId="params.data.revision",
        getRowStyle={"styleConditions": [
            {"condition": f"params.data.revision == {_quoted(here)}",
             "style": {"background": "var(--hover)", "fontWeight": 600}},
        ]},
        className="ag-theme-quartz clickable",
    )  # fmt: skip


def _quoted(text: str) -> str:
    """Text as a literal of the grid's expressions; a revision with odd characters is not marked."""
    return f"'{text}'" if all(c.isalnum() or c in "-_./" for c in text) else "''"


def _column(name: str, shown: str, form: dict[str, str] | None) -> dict[str, Any]:
    column: dict[str, Any] = {"field": name, "headerName": shown, "filter": False, "suppressHeaderMenuButton": True,
                              "minWidth": _WIDTHS.get(name, 62)}  # fmt: skip
    if name in _EXPLAINED:
        column["headerTooltip"] = _EXPLAINED[name]
    if name == "checkpoint":
        column |= {"comparator": {"function": "nodeA.data.place - nodeB.data.place"}}
    if form is not None:
        column |= {"valueFormatter": form, "type": "rightAligned"}
    return column


def tasks(source: Source, data: SweepData, operator: str) -> Any:
    """What failed, and what every task took."""
    model = source.checkpoint.model if source.checkpoint is not None else ""
    rows = [r for r in table_rows(data, "tasks") if r.get("model") == model]
    if not rows:
        return kit.panel("Tasks", kit.small("This sweep has no table 'tasks' yet: let 'arithcirc sweep' finish one."))
    wrong = troubles(data)
    left = unfinished(data)
    notes = [
        _note(html.B(f"{t['title']}, {t['checkpoint']}: {t['status']}. "), theme.prose(str(t["reason"]))) for t in wrong
    ]
    if left:
        notes.append(kit.small(f"{left} tasks have not ended: the same 'arithcirc sweep' command goes on with them."))
    frame = pd.DataFrame(
        [
            {
                "operator": theme.operator_title(str(r["operator"])), "checkpoint": r["checkpoint"],
                "status": r.get("status"), "seconds": _plain(r.get("seconds")),
                "memory": _plain(r.get("peak_bytes"), scale=1e-6), "shared": _plain(r.get("n_shared")),
                "attempts": _plain(r.get("attempts")), "reason": theme.prose(str(_plain(r.get("reason")) or "")),
            }
            for r in rows
        ]
    ).astype(object)  # fmt: skip
    columns: list[dict[str, Any]] = [
        {"field": "operator", "headerName": "operator", "minWidth": 130},
        {"field": "checkpoint", "headerName": "step", "minWidth": 96},
        {"field": "status", "headerName": "status"},
        _column("seconds", "seconds", _TENTHS), _column("memory", "peak memory, MB", _TENTHS),
        _column("shared", "shared prompts", _COUNT), _column("attempts", "attempts", _COUNT),
        {"field": "reason", "headerName": "reason", "minWidth": 320, "tooltipField": "reason"},
    ]  # fmt: skip
    grid = kit.grid(frame, columns, id="sweep-tasks", name="tasks", height=min(300, 36 + 28 * max(len(frame), 4)))
    help = "A task analyses one checkpoint and one operator. Without a circuit: too few correct prompts to choose one."
    title = f"Tasks: {sum(r.get('status') == 'done' for r in rows)} of {len(rows)} done"
    return kit.panel(title, *notes, grid, help=help, mt="sm", id="sweep-at-tasks")


def _note(*parts: Any) -> Any:
    return dmc.Text(list(parts), size="xs", mt=2)


def _known(value: Any) -> bool:
    return value is not None and not pd.isna(value)


def _plain(value: Any, scale: float = 1.0) -> Any:
    """A value as the grid takes it: a plain number or text, None for missing."""
    if not _known(value):
        return None
    if isinstance(value, str | bool):
        return value
    number = float(value) * scale
    return int(number) if number.is_integer() else number
