"""Page Heads: where each head looks from `=`, what it copies there, and how much the answer needs it.

A sweep has effects and circuits of heads but neither attention nor probes on their outputs; the page shows what there
is and says how to get the rest. On a typed prompt the live model gives one head's attention and every head's direct
logit attribution.
"""

from typing import Any

import dash
import dash_mantine_components as dmc
import pandas as pd
from dash import MATCH, Input, Output, State, dcc, html

from arithcirc.errors import RequestError
from arithcirc.explorer import kit
from arithcirc.explorer.context import Context, Page
from arithcirc.explorer.follow import choose, follow, follow_rows, leads_to, shown
from arithcirc.explorer.pages.heads_live import live_part
from arithcirc.explorer.pages.heads_tables import head_rows, sentence
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View
from arithcirc.viz import theme
from arithcirc.viz.head_profile import attention_bars, decoded_bars, head_effects
from arithcirc.viz.heads import head_attention, head_copies, head_cuts
from arithcirc.viz.operator_facts import absent
from arithcirc.viz.panels import bare

POLL = 700
_CARRIES = "params.value == null ? '–' : params.value == 'op1, op2, operator' ? 'all three' : params.value"
HELP = {
    "all": "Every head with its patching effect at = (nats of the answer's lead), its rank, whether the circuit keeps "
    "it, what it carries to = (the parts of the prompt whose exchange alone moves the answer by at least half as much "
    "as the strongest part does, at least 0.5 nats), the position it attends to most from =, and the part a linear "
    "probe reads best off its output: a lower bound, easier for four operators than for 300 operands. "
    "Click a row; the arrow keys step through the ranks.",
    "attention": "Mean attention weights from =. They say where the head looks, not what it takes from there.",
    "decoded": "A linear probe is trained on the head's output at = and tested on prompts it has not seen. Beside it "
    "what always naming the most frequent value would score. A lower bound: a probe may miss what is there, and tells "
    "four operators apart more easily than 300 operands. That it can be read does not mean that it is used.",
    "effects": "The head's output at one position is replaced by that in a prompt where only one part differs. Red: "
    "the answer needs what the head brings there about that part.",
    "cuts": "All attention from one position to an earlier one is cut in every layer. Accuracy that stays says that "
    "the later position does not need what it would read there.",
    "live": "Attention of the chosen head on this very prompt, and what every head writes directly into the logit of "
    "the true answer (read through the final norm with its scale held fixed; effects through later layers are not in "
    "it).",
}  # fmt: skip


def layout(context: Context, view: View, source: Source) -> Any:
    """The page."""
    if not source.has("effects") or source.table("effects", view.op).empty:
        return kit.empty("No heads to show", *absent(source, "effects", view.op))
    rows = head_rows(view, source)
    at = _chosen(view, rows)
    row = {str(name): value for name, value in rows.iloc[at].items()}
    columns = dmc.Grid(
        [
            dmc.GridCol(_all(view, rows, at), span={"base": 12, "md": 5.8}),
            dmc.GridCol(_one(view, source, rows, row), span={"base": 12, "md": 6.2}),
            dmc.GridCol(_prompt(context, view, source, row), span=12),
            *_circuit(view, source),
        ],
        gutter=12,
    )
    return html.Div(columns)


def _chosen(view: View, rows: pd.DataFrame) -> int:
    """The row of the head in the address, by default the first. Raises RequestError for a head there is not."""
    layer, head = view.whole("layer"), view.whole("head")
    if layer is None and head is None:
        return 0
    hit = rows.index[(rows["layer"] == layer) & (rows["head"] == (0 if head is None else head))]
    if hit.empty:
        last = f"L{rows['layer'].max()}H{rows['head'].max()}"
        raise RequestError(f"there is no head L{layer}H{head}: heads go from L0H0 to {last}")
    return int(hit[0])


# -- all heads ---------------------------------------------------------------------------------------------------------


def _all(view: View, rows: pd.DataFrame, at: int) -> Any:
    fixed = {"function": "params.value == null ? '–' : d3.format('.2f')(params.value)"}
    right: dict[str, Any] = {"valueFormatter": fixed, "type": "rightAligned"}
    offered: list[dict[str, Any]] = [
        {"field": "name", "headerName": "head", "width": 62, "cellClass": "ov-cell-link"},
        {"field": "rank", "headerName": "rank", "width": 50, "type": "rightAligned"},
        {"field": "circuit", "headerName": "circuit", "width": 68},
        {"field": "effect", "headerName": "nats", "headerTooltip": "effect at =", "width": 62} | right,
        {
            "field": "carries",
            "headerName": "carries",
            "headerTooltip": "by patching one part at a time",
            "width": 104,
            "valueFormatter": {"function": _CARRIES},
        },
        {"field": "looks", "headerName": "looks at", "width": 80},
        {
            "field": "decodes",
            "headerName": "probe",
            "headerTooltip": "read best by a linear probe: a lower bound",
            "width": 78,
        },
        {
            "field": "accuracy",
            "headerName": "held out",
            "headerTooltip": "the probe's accuracy on held-out prompts",
            "width": 74,
        }
        | right,
    ]
    layer, head = int(rows["layer"][at]), int(rows["head"][at])
    listed = rows
    if "in_circuit" in rows:
        listed = rows.assign(circuit=["✓" if inside else "" for inside in rows["in_circuit"]])
    columns = [c for c in offered if c["field"] in listed.columns]
    fields = ["href", "layer", "head", *(c["field"] for c in columns)]
    listed = listed[fields].astype(object).where(listed[fields].notna(), None)
    grid = kit.grid(
        listed, columns, id="heads-all", name=f"heads_{theme.OPERATOR_NAMES.get(view.op, '')}", height=520,
        getRowId="params.data.href", scrollTo={"rowIndex": at, "rowPosition": "middle"},
        defaultColDef={"sortable": True, "filter": False, "resizable": True, "minWidth": 44},
        rowClassRules={"ov-chosen-row": f"params.data.layer == {layer} && params.data.head == {head}"},
    )  # fmt: skip
    return kit.panel(
        "All heads", html.Div(grid, className="ov-heads", style={"marginTop": 8}), help=HELP["all"], h="100%"
    )


# -- one head ---------------------------------------------------------------------------------------------------------


def _one(view: View, source: Source, rows: pd.DataFrame, row: dict[str, Any]) -> Any:
    at = int(rows.index[rows["name"] == row["name"]][0])
    steps = dmc.Group(
        [_step("←", "ArrowLeft", rows, at - 1, "stronger head"), _step("→", "ArrowRight", rows, at + 1, "weaker head")],
        gap=4,
    )
    colour = theme.operator_colour(view.op)
    parts: list[Any] = [dmc.Text(sentence(row, len(rows), view.op), size="sm", mt=4)]
    name, where = row["name"], (int(row["layer"]), int(row["head"]))
    if source.has("heads"):
        mine = _of(source.table("heads", view.op), *where)
        copies = source.table("head_copies") if source.has("head_copies") else None
        attention = attention_bars(mine, colour=colour)
        both = [_figure("Attention from =", bare(attention, l=64), "heads-attention", f"{name}_attention", 178,
                        HELP["attention"])]  # fmt: skip
        if copies is not None:
            held = _of(copies[copies["operator"].isin([view.op, "all"])], *where)
            if not held.empty:
                drawn = bare(decoded_bars(held, colour=colour), l=64)
                both.append(
                    _figure(
                        "What a probe reads",
                        drawn,
                        "heads-decoded",
                        f"{name}_decoded",
                        178,
                        HELP["decoded"],
                    )
                )
        parts.append(dmc.SimpleGrid(both, cols=2, spacing=12, mt=8))
    else:
        parts.append(html.Div(kit.empty("Attention was not measured", *_without(source)), className="ov-inset"))
    effects = bare(head_effects(source.table("effects", view.op), layer=where[0], head=where[1]), l=96)
    effects.update_layout(coloraxis_colorbar={"title": {"text": ""}, "thickness": 10})
    title = "Patching effect by position and by what differs (nats)"
    parts.append(_figure(title, effects, "heads-effects", f"{name}_effects", 212, HELP["effects"]))
    return kit.panel(f"Head {name}", *parts, actions=steps, h="100%")


def _step(text: str, key: str, rows: pd.DataFrame, at: int, title: str) -> Any:
    """A link to the head at this place of the ranking, by key; nothing beyond the ends."""
    if not 0 <= at < len(rows):
        return html.Span(text, className="ov-step-link off")
    href, label = str(rows["href"][at]), f"{title}: {rows['name'][at]}"
    return dmc.Anchor(
        text, href=href, className="ov-step-link", underline="never", **{"aria-label": label, "data-key": key}
    )


def _of(table: pd.DataFrame, layer: int, head: int) -> pd.DataFrame:
    return table[(table["layer"] == layer) & (table["head"] == head)]


def _without(source: Source) -> tuple[str, str | None]:
    """Why there is no attention, and what to run."""
    if not source.sweep:
        return "the stage heads has not run", source.command("heads")
    at = source.checkpoint
    line = (
        f"arithcirc analyze {source.model.get('name', at.model if at else '')} --revision={at.revision if at else ''}"
    )
    return (
        "a sweep measures effects, circuits and labels, not what heads attend to and copy; one checkpoint analysed by "
        "itself has it", line,
    )  # fmt: skip


def _figure(title: str, figure: Any, id_: str, name: str, height: int, help_: str) -> html.Div:
    head = dmc.Group([html.Span(title, className="ov-map-title"), kit.hint(help_)], gap=6)
    return html.Div([head, kit.graph(figure, id=id_, name=name, height=height)])


# -- one prompt ------------------------------------------------------------------------------------------------------


def _prompt(context: Context, view: View, source: Source, row: dict[str, Any]) -> Any:
    prompt = view.choices.get("prompt") or _example(source, view.op)
    field = dmc.TextInput(
        id="heads-prompt", value=prompt, debounce=True, size="xs", w=150, placeholder="226-68=",
        **{"data-key": "/", "aria-label": "prompt"},
    )  # fmt: skip
    state = context.live.state(source)
    now = shown("heads", {"prompt": prompt})
    return kit.panel(
        f"{row['name']} and all heads on one prompt",
        html.Div(
            live_part(context, source, view.op, prompt, int(row["layer"]), int(row["head"])), id=view.part("heads-live")
        ),
        dcc.Interval(id=view.part("heads-poll"), interval=POLL, disabled=state.name != "loading"),
        dcc.Store(id=view.part("heads-state")),
        actions=dmc.Group([html.Span("prompt", className="control-label"), field, now], gap=6), help=HELP["live"],
    )  # fmt: skip


def _example(source: Source, op: str) -> str:
    if source.has("prompts"):
        prompts = source.table("prompts", op)
        if not prompts.empty:
            return str(prompts["prompt"].iloc[0])
    return f"226{op}68="


def _looked(context: Context, data: Any) -> tuple[Any, bool]:
    """Whether the model is there: a quick answer, so that looks cannot pile up behind figures being drawn."""
    state = context.live.state(context.source(data)).name
    return (dash.no_update, False) if state == "loading" else (state, True)


def _arrived(context: Context, state: Any, data: Any) -> Any:
    """The part about one prompt, once the model is there or has failed."""
    if not state:
        return dash.no_update
    source, view = context.source(data), View.of(data)
    rows = head_rows(view, source)
    row = rows.iloc[_chosen(view, rows)]
    prompt = view.choices.get("prompt") or _example(source, view.op)
    return live_part(context, source, view.op, prompt, int(row["layer"]), int(row["head"]))


# -- the circuit's heads together -------------------------------------------------------------------------------------


def _circuit(view: View, source: Source) -> list[Any]:
    """All heads of the circuit side by side, and the cuts."""
    drawn = [
        ("heads", "Where the circuit’s heads look", head_attention, "heads-circuit", HELP["attention"]),
        ("head_copies", "What a linear probe reads: a lower bound", head_copies, "heads-copies", HELP["decoded"]),
        ("head_cuts", "Cutting one position off from another", head_cuts, "heads-cuts", HELP["cuts"]),
    ]
    cells = []
    for table, title, draw, id_, help_ in drawn:
        if not source.has(table):
            continue
        rows = source.table(table)
        rows = rows[rows["operator"].isin([view.op, "all"])]
        if rows[rows["operator"] == view.op].empty:
            continue
        figure = bare(draw(rows))
        figure.update_layout(coloraxis_colorbar={"title": {"text": ""}, "thickness": 10})
        if table != "head_cuts":
            words = {str(n): str(n) for n in figure.data[0].y}
            leads_to(figure, "heads", {"layer": "y", "head": "y"}, values={
                "layer": {n: n[1:].split("H")[0] for n in words}, "head": {n: n.split("H")[1] for n in words},
            })  # fmt: skip
        height = max(260, min(520, int(figure.layout.height or 300) - 60))
        graph = kit.graph(figure, id=id_, name=id_.replace("-", "_"), height=height)
        cells.append(dmc.GridCol(kit.panel(title, graph, help=help_, h="100%"), span={"base": 12, "md": 4}))
    return cells


def register(context: Context) -> None:
    """A typed prompt draws the page anew; rows and cells lead to their head.

    What the model says late is only put under the address that asked for it (MATCH).
    """

    def any_of(kind: str) -> dict[str, Any]:
        return {"type": f"heads-{kind}", "asked": MATCH}

    context.dash.callback(
        Output(any_of("state"), "data"), Output(any_of("poll"), "disabled"),
        Input(any_of("poll"), "n_intervals"), State("view", "data"),
        prevent_initial_call=True,
    )(lambda _, data: _looked(context, data))  # fmt: skip
    context.dash.callback(
        Output(any_of("live"), "children"), Input(any_of("state"), "data"), State("view", "data"),
        prevent_initial_call=True,
    )(lambda state, data: _arrived(context, state, data))  # fmt: skip
    choose(context, "heads-prompt")
    follow_rows(context, "heads-all")
    for graph in ("circuit", "copies"):
        follow(context, f"heads-{graph}")


PAGE = Page("heads", "Heads", "Where heads look and what they bring to =", layout, register)
