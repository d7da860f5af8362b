"""Page Overview: what was found, in words, numbers and maps; a click on a head, an MLP or a family goes there."""

from typing import Any

import dash_mantine_components as dmc
import plotly.graph_objects as go
from dash import Input, Output, State, html
from dash.dependencies import ClientsideFunction

from arithcirc.errors import ArithcircError, RequestError
from arithcirc.explorer import kit
from arithcirc.explorer.context import Context, Page
from arithcirc.explorer.follow import follow, leads_to
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View
from arithcirc.viz import theme
from arithcirc.viz.effects import head_heatmap, mlp_heatmap
from arithcirc.viz.facts import headline, token_line
from arithcirc.viz.faithfulness import faithfulness_curves
from arithcirc.viz.heuristics import KINDS, family_shares
from arithcirc.viz.operator_facts import Facts, absent, gather
from arithcirc.viz.panels import bare
from arithcirc.viz.probes import probe_heatmap
from arithcirc.viz.story import limits, story
from arithcirc.viz.theme import number, percent
from arithcirc.viz.verdicts import by_kind

POSITION, CHANGE, METRIC, LABELS = "equals", "any", "logit_diff", "significant"
METRIC_NAMES = {"logit_diff": "logit difference (nats)", "E": "E: log₁₀(1 + E)", "kl": "KL (nats)"}
MAP_HEIGHT = 300
COLUMNS = {
    "circuit": "heads in the circuit",
    "F": "its faithfulness on held-out prompts (ratio of logits)",
    "answers": "accuracy of the circuit alone, the rest replaced by means",
    "labels": "share of the tested neurons with a significant label",
    "zeroed / random": "accuracy with the neurons of each prompt’s heuristics zeroed, and with as many random ones",
}
"""Of the table of operators, with what they mean."""
VERDICTS = {"holds": "teal", "does not hold": "red"}
HELP_MAPS = (
    "Activation patching: one component's output in a prompt is replaced by its output in a counterfactual prompt, and "
    "the fall of the answer's lead is measured. Red: the answer needs what this component brings. The position says "
    "where in the prompt it was replaced; the counterfactual says which part of the prompt differed. Click a cell to "
    "go to the head, or to the neurons of the layer."
)


def layout(context: Context, view: View, source: Source) -> Any:
    """The page."""
    facts = gather(source)
    here = facts.get(view.op)
    if here is None:
        nothing = kit.empty(
            "Nothing found yet", f"{source.title} has no results for any operator", source.command("prompts")
        )
        held = [kit.facts(_documents(view, source))] if source.study is not None else []
        return html.Div([nothing, *(kit.panel("Its documents", *held, className="panel empty") for _ in held)])
    middle = [
        dmc.GridCol(_maps(view, source), span=12),
        dmc.GridCol(_curve(view, source), span={"base": 12, "md": 6}),
        dmc.GridCol(_families(view, source), span={"base": 12, "md": 6}),
    ]
    if not any(source.has(t) and len(source.table(t, view.op)) for t in ("effects", "faithfulness", "heuristics")):
        middle = [dmc.GridCol(kit.empty("No mechanism to show", *absent(source, "effects", view.op)), span=12)]
    columns = dmc.Grid(
        [
            dmc.GridCol(_story(view, source, here), span={"base": 12, "md": 6}),
            dmc.GridCol(
                dmc.Stack([_operators(view, source, facts), _model(view, source)], gap=12, h="100%"),
                span={"base": 12, "md": 6},
            ),
            *middle,
            dmc.GridCol(_limits(source, here), span=12),
        ],
        gutter=12,
    )
    return html.Div(columns)


# -- words and numbers ---------------------------------------------------------------------------------------------


def _story(view: View, source: Source, facts: Facts) -> Any:
    steps = []
    for step in story(view, source, facts):
        end = [" ", kit.link(f"{step.more} →", step.href)] if step.href else []
        steps.append(html.Li([html.B(step.claim), " ", step.text, *end]))
    name = theme.OPERATOR_NAMES.get(view.op, view.op)
    return kit.panel(
        f"How {source.title} does {name}",
        html.Ol(steps, className="ov-story"),
        help="Every number is read off this run's tables. Choose another operator at the top right.",
        actions=_search(),
        h="100%",
    )


def _search() -> Any:
    """A field for neurons that leads to their page."""
    return dmc.TextInput(
        id="overview-search", placeholder="neurons: L5N240, mod 6", size="xs", w=196, leftSection=html.Kbd("/"),
        debounce=True,  # sent with Enter: a field that tells of every letter tells it after Enter
        **{"data-key": "/", "aria-label": "search neurons"},
    )  # fmt: skip


def _operators(view: View, source: Source, facts: dict[str, Facts]) -> Any:
    head = html.Tr([
        html.Th(""), html.Th("model", title="accuracy of the whole model; tick: always the most frequent answer"),
        *(html.Th(html.Span(name, title=text)) for name, text in COLUMNS.items()),
    ])  # fmt: skip
    rows = [row for o in facts for row in _operator_rows(view, facts[o])]
    table = html.Table([html.Thead(head), html.Tbody(rows)], className="ov-operators")
    return kit.panel(
        "All operators", table,
        html.Dl([part for name, text in COLUMNS.items() for part in (html.Dt(name), html.Dd(text))],
                className="facts ov-columns"),
        help="Click an operator to see it on the whole page.",
    )  # fmt: skip


def _operator_rows(view: View, facts: Facts) -> list[html.Tr]:
    summary, broken = facts.summary, facts.by_prompt
    a = summary.accuracy if summary else None
    f = (summary.evaluate or summary.discover) if summary else None
    skipped = summary is not None and summary.skipped is not None
    bar: Any = kit.small("skipped" if skipped else "–") if a is None else _bar(a.accuracy, a.base_rate, facts.operator)
    cells = [
        kit.link(theme.operator_title(facts.operator), view.url(op=facts.operator)),
        bar,
        "–" if f is None else f"{f.n_heads} of {summary.total_heads}" if summary and summary.total_heads else f.n_heads,
        "–" if f is None else number(f.faithfulness),
        "–" if f is None else percent(f.accuracy),
        percent(facts.labelled),
        "–" if broken is None else f"{number(broken['targeted'], 2)} / {number(broken['random'], 2)}",
    ]
    here = "ov-here" if facts.operator == view.op else ""
    verdict = html.Td(_verdict(facts), colSpan=len(cells))
    return [html.Tr([html.Td(cell) for cell in cells], className=f"ov-first {here}"), html.Tr(verdict, className=here)]


def _verdict(facts: Facts) -> Any:
    """Whether the bag of heuristics holds, as a coloured word, and in which experiment."""
    word, _, where = by_kind(facts.predictions).partition(": ")
    if not word:
        return kit.small("bag of heuristics not tested", size="xs")
    badge = dmc.Badge(word, color=VERDICTS.get(word, "orange"), variant="light", size="sm", tt="none")
    return html.Div(["bag of heuristics ", badge, f" {where}"], className="ov-verdict")


def _bar(value: float, base: float | None, operator: str) -> html.Div:
    """A share as a bar, with the base rate as a tick."""
    fill = html.Div(
        className="ov-fill", style={"width": f"{100 * value:.1f}%", "background": theme.operator_colour(operator)}
    )
    tick = [] if base is None else [html.Div(className="ov-tick", style={"left": f"{100 * base:.1f}%"})]
    title = f"accuracy {percent(value)}" + ("" if base is None else f", most frequent answer {percent(base)}")
    return html.Div(
        [html.Div([fill, *tick], className="ov-track"), html.Span(percent(value))], className="ov-share", title=title
    )


# -- maps ------------------------------------------------------------------------------------------------------------


def _choices(source: Source, op: str) -> dict[str, dict[str, str]]:
    """What the table of effects offers: values with their labels, by parameter."""
    rows = source.table("effects", op)
    offered = {"position": theme.POSITION_LABELS, "change": theme.CHANGE_LABELS, "metric": METRIC_NAMES}
    return {name: {v: label for v, label in all_.items() if v in set(rows[name])} for name, all_ in offered.items()}


def _maps(view: View, source: Source) -> Any:
    title = "Where the answer is computed"
    if not source.has("effects") or source.table("effects", view.op).empty:
        return kit.panel(title, kit.empty("No effects", *absent(source, "effects", view.op)))
    offered = _choices(source, view.op)
    position = view.choice("position", list(offered["position"]), POSITION)
    change = view.choice("change", list(offered["change"]), CHANGE)
    metric = view.choice("metric", list(offered["metric"]), METRIC)
    controls = dmc.Group(
        [
            _segmented("position", "heads at", offered["position"], position),
            _segmented("change", "counterfactual", offered["change"], change),
            dmc.Select(
                id="overview-metric", data=_data(offered["metric"]), value=metric, size="xs", w=176,
                allowDeselect=False, **{"aria-label": "metric"},
            ),
        ],
        gap=16,
    )  # fmt: skip
    heads, mlps = _effect_figures(source, view.op, position, change, metric)
    parts = [
        ("heads", "Heads: layer × head", heads, "overview-heads", 4.4),
        ("mlps", "MLPs: layer × position", mlps, "overview-mlps", 3.8),
        ("probes", "Probe for the answer: layer × position", _probe_figure(source, view.op), "overview-probes", 3.8),
    ]
    cells = []
    for name, label, figure, id_, span in parts:
        drawn: Any = kit.small(f"No probes: {absent(source, 'probes', view.op)[0]}.", py=40)
        if figure is not None:
            drawn = kit.graph(figure, id=id_, name=f"{name}_{theme.OPERATOR_NAMES.get(view.op, '')}", height=MAP_HEIGHT)
        cells.append(dmc.GridCol([html.Div(label, className="ov-map-title"), drawn], span={"base": 12, "md": span}))
    return kit.panel(title, dmc.Grid(cells, gutter=12, mt=8), help=HELP_MAPS, actions=controls)


def _segmented(name: str, label: str, options: dict[str, str], value: str) -> dmc.Group:
    control = dmc.SegmentedControl(id=f"overview-{name}", data=_data(options), value=value, size="xs")
    return dmc.Group([html.Span(label, className="control-label"), control], gap=6)


def _data(options: dict[str, str]) -> list[dict[str, str]]:
    return [{"value": value, "label": label} for value, label in options.items()]


def _effect_figures(source: Source, op: str, position: str, change: str, metric: str) -> tuple[go.Figure, go.Figure]:
    """Heads at the position, and MLPs at every position, on one operator."""
    rows = source.table("effects", op)
    heads = head_heatmap(rows, position=position, change=change, metric=metric)
    mlps = mlp_heatmap(rows, change=change, metric=metric)
    leads_to(heads, "heads", {"layer": "y", "head": "x"})
    leads_to(mlps, "neurons", {"layer": "y"})
    return _flat(heads), _flat(mlps)


def _probe_figure(source: Source, op: str) -> go.Figure | None:
    if not source.has("probes") or source.table("probes", op).empty:
        return None
    first = source.table("first_layers") if source.has("first_layers") else None
    return _flat(probe_heatmap(source.table("probes", op), first))


def _flat(figure: go.Figure) -> go.Figure:
    figure.update_layout(coloraxis_colorbar={"title": {"text": ""}, "thickness": 10, "len": 1.0})
    return bare(figure).update_layout(height=MAP_HEIGHT)


def _redraw(context: Context, position: Any, change: Any, metric: Any, data: Any) -> tuple[go.Figure, go.Figure]:
    """The effect maps again, after a control was moved. Raises RequestError where the table has no such effects."""
    source, op = context.source(data), View.of(data).op
    if op not in source.operators:
        raise RequestError("choose an operator first")
    heads, mlps = _effect_figures(source, op, str(position), str(change), str(metric))
    return kit.styled(heads), kit.styled(mlps)


# -- curves, families -------------------------------------------------------------------------------------------------


def _curve(view: View, source: Source) -> Any:
    title = "How many heads it takes"
    if not source.has("faithfulness") or source.table("faithfulness", view.op).empty:
        return kit.panel(title, kit.empty("No circuit", *absent(source, "faithfulness", view.op)), h="100%")
    target = float(source.data().setting("circuit", "target", 0.9))
    figure = faithfulness_curves(source.table("faithfulness", view.op), target=target)
    bare(figure, b=92).update_layout(legend_y=-0.22)
    return kit.panel(
        title, kit.graph(figure, id="overview-faithfulness", name="faithfulness", height=330),
        help="Heads enter the circuit by the size of their effect; every other head is replaced by its mean. F = 1 "
        "keeps all of the model's behaviour, F = 0 none. Grey: as many heads drawn at random. The pink diamond is the "
        "chosen circuit.", h="100%",
    )  # fmt: skip


def _families(view: View, source: Source) -> Any:
    title = "Which heuristics, in which layer"
    if not source.has("heuristics") or source.table("heuristics", view.op).empty:
        return kit.panel(title, kit.empty("No labels", *absent(source, "heuristics", view.op)), h="100%")
    kind = view.choice("labels", list(KINDS), LABELS)
    control = dmc.SegmentedControl(
        id="overview-labels", data=_data({k: label.replace("labels ", "") for k, label in KINDS.items()}), value=kind,
        size="xs",
    )  # fmt: skip
    graph = kit.graph(_family_figure(source, view.op, kind), id="overview-families", name="families", height=330)
    return kit.panel(
        title, graph, actions=control, h="100%",
        help="Per cent of a layer's important neurons whose activation map matches a heuristic of the family; a neuron "
        "may match several. Click a cell to list its neurons.",
    )  # fmt: skip


def _family_figure(source: Source, op: str, kind: str) -> go.Figure:
    data = source.data("heuristics", "neurons", "unlabelled")
    tables = {name: table[table["operator"] == op] for name, table in data.tables.items()}
    data = type(data)(tables, {}, data.config)
    figure = bare(family_shares(data, kind=kind))
    words = {name: family for family, (name, _, _) in theme.FAMILIES.items()}
    figure.update_layout(coloraxis_colorbar={"title": {"text": ""}, "thickness": 10})
    return leads_to(figure, "neurons", {"layer": "x", "family": "y"}, values={"family": words})


def _redraw_families(context: Context, kind: Any, data: Any) -> go.Figure:
    source = context.source(data)
    chosen = str(kind) if str(kind) in KINDS else LABELS
    return kit.styled(_family_figure(source, View.of(data).op, chosen).update_layout(height=330))


# -- what is missing, what it is ---------------------------------------------------------------------------------


def _limits(source: Source, facts: Facts) -> Any:
    found = limits(source, facts)
    rows = []
    for limit in found:
        command = [dmc.Code(limit.command)] if limit.command else []
        rows.append(html.Li([html.B(f"{limit.what}: "), limit.text, *([" "] if command else []), *command]))
    shown: Any = html.Ul(rows, className="ov-limits") if rows else kit.small("Nothing is missing for this operator.")
    return kit.panel(
        "What this run could not say", shown, h="100%",
        help="Tables that were not computed, with the command that makes them; predictions that do not hold; numbers "
        "that rest on few prompts.",
    )  # fmt: skip


def _model(view: View, source: Source) -> Any:
    facts = dict(source.model)
    pairs: list[tuple[Any, Any]] = [("model", source.title), ("architecture", headline(facts))]
    prompts = source.config.get("prompts", {})
    for key, label in (("operands", "operands"), ("n_discover", "prompts to discover"), ("n_evaluate", "to evaluate")):
        if prompts.get(key) is not None:
            pairs.append((label, str(prompts[key])))
    tokens = token_line(facts)
    if tokens:
        chips = [html.Span([html.Code(token), html.Span(place)], className="ov-token") for token, place in tokens]
        pairs.append(("tokens", html.Div(chips, className="ov-tokens")))
    pairs += _documents(view, source)
    return kit.panel("The model", kit.facts(pairs), flex=1)


def _documents(view: View, source: Source) -> list[tuple[Any, Any]]:
    """That the run has an influence study, with its size, and the way there."""
    try:
        study = source.study
        if study is None or not study.has("documents"):
            return []
        many = theme.count(study.corpus()["documents"].sum())
        asked = [f"{len(study.table(t))} {t}" for t in ("queries", "mechanisms") if study.has(t)]
    except ArithcircError as error:
        return [("training text", str(error))]
    said = f"influence of {many} documents{' on ' + ' and '.join(asked) if asked else ''} "
    return [("training text", html.Span([said, kit.link("→", view.url("documents"))]))]


def register(context: Context) -> None:
    """Controls redraw their figures and write themselves into the address; clicks on cells go where they point."""
    context.dash.callback(
        Output("overview-heads", "figure"), Output("overview-mlps", "figure"),
        Input("overview-position", "value"), Input("overview-change", "value"), Input("overview-metric", "value"),
        State("view", "data"), prevent_initial_call=True,
    )(lambda position, change, metric, data: _redraw(context, position, change, metric, data))  # fmt: skip
    context.dash.callback(
        Output("overview-families", "figure"), Input("overview-labels", "value"), State("view", "data"),
        prevent_initial_call=True,
    )(lambda kind, data: _redraw_families(context, kind, data))  # fmt: skip
    context.dash.clientside_callback(
        ClientsideFunction("follow", "search"),
        Output("url", "pathname", allow_duplicate=True), Output("url", "search", allow_duplicate=True),
        Input("overview-search", "n_submit"), State("overview-search", "value"), State("view", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    for control in ("position", "change", "metric", "labels"):
        kit.remember(context, f"overview-{control}")
    for graph in ("heads", "mlps", "families"):
        follow(context, f"overview-{graph}")


PAGE = Page("overview", "Overview", "What was found, and what was not", layout, register)
