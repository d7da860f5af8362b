"""Which kinds of documents, or which sources, stand at the ends of the rankings: lift over their share of the corpus.

`lift_figure`       one line per kind (or source), one point per group of queries: share among the top (or bottom) k
                    divided by share of the corpus, on a logarithmic axis, with 95%; 1 is no preference
`query_kinds`       the same bars for one query, for a page: share beside the corpus' share
`mechanism_kinds`   mechanism x kind: log2 of the lift; coloured only where p < .05 against documents in random order

A lift without an upper neighbour says little when k is small: see its interval.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from arithcirc.viz import theme
from arithcirc.viz.frames import numbers, require
from arithcirc.viz.influence import names
from arithcirc.viz.panels import colour_axis, grid_height, heat, interval, legend_below

LEAST = 0.02
"""The lowest lift drawn: none of a kind has lift 0, which a logarithmic axis cannot show."""
LEVEL = 0.05
LIMIT = 3.0
"""log2 of the lift at which the colours end."""


def lift_figure(
    table: pd.DataFrame, what: str, *, method: str = "ekfac_normed", end: str = "top", k: int | None = None
) -> go.Figure:
    """`what` is "kind" or "source"; two panels, queries answered right and wrong."""
    columns = ("group", "correct", "method", "end", "k", what, "share", "corpus_share", "lift")
    rows = require(table, f"{what}s", columns, {"method": method, "end": end})
    k = int(rows["k"].min()) if k is None else k
    rows = require(rows, f"{what}s", ("lift",), {"k": k})
    words = names.in_order(rows[what], names.KINDS if what == "kind" else {})
    figure = make_subplots(
        rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.05, subplot_titles=list(names.ANSWERED.values())
    )
    held, told = names.in_order(rows["group"], names.GROUPS), set[str]()
    for panel, correct in enumerate(names.ANSWERED, start=1):
        mine = rows[rows["correct"] == correct]
        for at, group in enumerate(held):
            part = mine[mine["group"] == group]
            if len(part):
                _points(figure, panel, at - (len(held) - 1) / 2, group, part, (what, words), named=group not in told)
                told.add(group)
        figure.add_vline(x=1, line_color=theme.GREY, line_width=1.2, row=1, col=panel)
    title = f"{what.capitalize()}s among the {end} {k:,} documents, {names.method(method)}"
    figure.update_layout(template=theme.template("light"), title=title)
    figure.update_annotations(font_size=theme.FONT_SIZE)
    legend_below(figure, 150 + 58 * len(words), bottom=104)
    highest = float(np.nanmax([2.0, *numbers(rows, ["lift", "high"]).ravel()]))
    figure.update_xaxes(
        type="log", range=[np.log10(LEAST * 0.85), np.log10(highest * 1.15)],
        title="lift: share among them / share of the corpus",
        tickvals=[0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50],
        ticktext=["none", "0.05", "0.1", "0.2", "0.5", "1", "2", "5", "10", "20", "50"],
    )  # fmt: skip
    shares = rows.drop_duplicates(what).set_index(what)["corpus_share"]
    said = [f"{_word(what, w)}<br>{theme.percent(shares.get(w))} of corpus" for w in words]
    figure.update_yaxes(
        tickvals=list(range(len(words))), ticktext=said, range=[len(words) - 0.5, -0.5], showgrid=False, zeroline=False
    )
    return figure


def _word(what: str, word: str) -> str:
    return names.plain(names.kind(word) if what == "kind" else word or "no source", 28)


def _points(
    figure: go.Figure,
    panel: int,
    shift: float,
    group: str,
    rows: pd.DataFrame,
    axis: tuple[str, Sequence[str]],
    *,
    named: bool,
) -> None:
    what, words = axis
    rows = rows.drop_duplicates(what).set_index(what)
    rows = rows.loc[[w for w in words if w in rows.index]]
    lift, low, high, share, p = numbers(rows, ["lift", "low", "high", "share", "p"]).T
    at, low = np.maximum(lift, LEAST), np.maximum(np.where(np.isfinite(low), low, lift), LEAST)
    said = [
        f"{names.group(group)}: {_word(what, w)}<br>lift {theme.number(v, 2)}, {theme.percent(s)} of them, "
        f"p = {theme.p_value(q)}"
        for w, v, s, q in zip(rows.index, lift, share, p, strict=True)
    ]
    figure.add_trace(
        go.Scatter(
            x=at, y=[words.index(w) + 0.17 * shift for w in rows.index], mode="markers",
            error_x=interval(at, low, np.maximum(np.where(np.isfinite(high), high, lift), LEAST)),
            marker={"color": names.group_colour(group), "symbol": names.group_symbol(group), "size": 9},
            name=names.group(group), legendgroup=group, showlegend=named, text=said,
            hovertemplate="%{text}<extra></extra>",
        ),
        row=1, col=panel,
    )  # fmt: skip


def counts(found: Sequence[str], corpus: pd.DataFrame, what: str = "kind") -> pd.DataFrame:
    """Kinds among these documents: columns `what`, count, share, corpus_share, lift, low, high (95% Wilson).

    `corpus` has columns `what` and share (`Study.corpus`). Rows are in the order of the names, then by name.
    """
    shares = {
        str(w) if w is not None and w == w else "": float(s) for w, s in zip(corpus[what], corpus["share"], strict=True)
    }
    held = [str(w) if w is not None and w == w else "" for w in found]
    words = names.in_order({*shares, *held}, names.KINDS if what == "kind" else {})
    n = len(held)
    rows = []
    for word in words:
        count, base = held.count(word), shares.get(word, 0.0)
        low, high = wilson(count, n)
        scale = 1 / base if base else np.nan
        share = count / n if n else np.nan
        rows.append((word, count, share, base, share * scale, low * scale, high * scale))
    return pd.DataFrame(rows, columns=[what, "count", "share", "corpus_share", "lift", "low", "high"])


def wilson(count: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95% interval of a share."""
    if n == 0:
        return np.nan, np.nan
    p, d = count / n, 1 + z * z / n
    middle, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return float(max(0.0, (middle - half) / d)), float(min(1.0, (middle + half) / d))


def mechanism_kinds(table: pd.DataFrame, *, method: str = "ekfac", end: str = "top", k: int | None = None) -> go.Figure:
    """Lift of every kind among the top k of every mechanism; what random order gives too stays without colour."""
    rows = require(
        table, "mechanism_kinds", ("query", "method", "end", "k", "kind", "lift"), {"method": method, "end": end}
    )
    k = int(rows["k"].min()) if k is None else k
    rows = require(rows, "mechanism_kinds", ("kind",), {"k": k})
    kinds = names.in_order(rows["kind"], names.KINDS)
    queries = list(dict.fromkeys(rows["query"].astype(str)))
    lift = rows.pivot_table(index="query", columns="kind", values="lift", aggfunc="first").reindex(
        queries, columns=kinds
    )
    p = rows.assign(p=numbers(rows, ["p"])[:, 0]).pivot_table(
        index="query", columns="kind", values="p", aggfunc="first", dropna=False
    ).reindex(queries, columns=kinds).to_numpy(dtype=np.float64)  # fmt: skip
    values = lift.to_numpy(dtype=np.float64)
    z = np.log2(np.maximum(values, LEAST)) * np.where(p < LEVEL, 1.0, 0.0)
    text = np.array(
        [
            [
                "" if np.isnan(v) else f"{theme.number(v, 2)}{' •' if q < LEVEL else ''}"
                for v, q in zip(vs, qs, strict=True)
            ]
            for vs, qs in zip(values, p, strict=True)
        ]
    )
    figure = go.Figure(layout={"template": theme.template("light")})
    figure.set_subplots(1, 1)
    custom = np.array([[theme.p_value(q) for q in qs] for qs in p])
    heat(
        figure, 1, z, [names.plain(names.kind(w), 28) for w in kinds],
        [names.plain(mechanism(q), 40) for q in queries], text=text, customdata=custom,
        hover="%{y}<br>%{x}: lift %{text}, p = %{customdata}<extra></extra>",
    )  # fmt: skip
    colour_axis(figure, "log₂ lift", -LIMIT, LIMIT)
    title = f"Kinds among the {end} {k:,} documents of each mechanism, {names.method(method)}"
    title += f" (colour and •: p < {LEVEL:g})"
    figure.update_layout(title=title, height=grid_height(len(queries), extra=140), margin={"l": 190})
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def mechanism(query: str) -> str:
    """A mechanism for people: `neuron:-:L3N17` is `− L3N17`, `heuristic:-:op2 = 8 mod 10` is `− op2 = 8 mod 10`."""
    what, _, rest = query.partition(":")
    operator, _, name = rest.partition(":")
    if what not in ("neuron", "heuristic") or not name:
        return query
    return f"{theme.OPERATOR_SIGNS.get(operator, operator)} {name}"
