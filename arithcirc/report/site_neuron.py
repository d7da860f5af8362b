"""The page of one neuron in a static export: words, figures, packed arrays, tables.

The figures are those of the explorer's Neuron page for one operator: K, KV and the hits of its best labels (arrays
packed, see `report.site_pack`), marginals and spectra, what it writes into each number's logit, effects over
prompts and falls when it is zeroed.
"""

from typing import Any

import numpy as np

from arithcirc.neuron_maps import Cases, NeuronMap
from arithcirc.report import site_pack
from arithcirc.report.site_neurons import MAPPED, Chosen
from arithcirc.viz import masks, theme
from arithcirc.viz.marginals import plain_marginals
from arithcirc.viz.neuron_effects import plain_drops, plain_effects
from arithcirc.viz.neuron_hits import Hits, hits, where
from arithcirc.viz.neuron_maps import Marked, plain_maps
from arithcirc.viz.neuron_words import NOTHING, breaks, inside, matters, moved, where_active, writes
from arithcirc.viz.value_tokens import plain_line, plain_tokens

LABELS = 40
BROKEN = 12
"""Prompts listed whose answer changes when the neuron is zeroed."""
RIGHT = ("value", "tokens", "drops")
"""Figures of the right column."""
Label = dict[str, Any]
Drawn = tuple[str, str, str, theme.Plain]
View = tuple[Label | None, Marked | None, Hits | None]


def page(
    entry: Chosen, held: NeuronMap, labels: list[Label], pairs: np.ndarray | None, *, level: float
) -> dict[str, Any]:
    """What the template of a neuron's page is given; `pairs` are op1, op2 of the clean prompts behind the effects."""
    views = _views(held, labels)
    label, mark, found = views[0]
    drawn = _figures(held, mark, pairs)
    figures = {f"map-{at}": plain_maps(held, view[1], found=view[2]) for at, view in enumerate(views)}
    figures |= {key: figure for key, _, _, figure in drawn}
    text, arrays = site_pack.pack_figures(figures)
    return {
        "chosen": entry,
        "words": _words(entry, held, label or next(iter(labels), None), found, level),
        "views": [_view(str(at), view) for at, view in enumerate(views)],
        "k": site_pack.pack_map(held.k),
        "value": site_pack.pack_floats(held.value),
        "first": held.first,
        "figures": [
            {"key": key, "title": title, "help": said, "side": int(key in RIGHT)} for key, title, said, _ in drawn
        ],
        "packed": text,
        "arrays": arrays,
        "labels": labels[:LABELS],
        "labels_total": len(labels),
        "broken": broken(held),
    }


def _views(held: NeuronMap, labels: list[Label]) -> list[View]:
    """The labels that can be drawn; one view without a label where there is none."""
    found: list[View] = []
    for row in labels[:MAPPED]:
        mark = Marked(str(row["heuristic"]), str(row["kind"]), str(row["end"]))
        hit = hits(held, mark.name, mark.kind, mark.end)
        if hit is not None:
            found.append((row, mark, hit))
    return found or [(None, None, None)]


def _view(key: str, view: View) -> dict[str, Any]:
    row, _, found = view
    return {
        "key": key,
        "label": row,
        "hits": found,
        "codes": site_pack.pack_codes(found.codes) if found is not None else "",
    }


def _words(entry: Chosen, held: NeuronMap, label: Label | None, found: Hits | None, level: float) -> list[str]:
    """What a newcomer should read first."""
    bottom = label is not None and label["end"] == "bottom"
    holds = where(held, str(label["heuristic"])) if label is not None else None
    said = [
        where_active(entry.name, label, found, level=level),
        inside(held, holds) if holds is not None else "",
        writes(held.value, active_below=bool((held.k < 0).any()) and bottom),
        matters(entry.effect, entry.rank, entry.of_layer, entry.overall, entry.of_all, entry.neuron.layer),
    ]
    return [text for text in said if text]


def _figures(held: NeuronMap, mark: Marked | None, pairs: np.ndarray | None) -> list[Drawn]:
    """Keys, titles, how to read them, and the figures beside the maps."""
    name = mark.name if mark is not None else None
    about = f", with the values of {name} marked" if name else ""
    drawn: list[Drawn] = [
        (
            "marginals", "Averages over prompts, and their periods",
            f"Mean over prompts with the same op1, op2 or result{about}. Below: how much of that line’s variance lies "
            "at each period; a residue mod 10 shows at 10, 5, 10/3, 5/2 and 2.",
            plain_marginals(held, mark),
        ),
        (
            "value", "What it writes into each number’s logit",
            "Direct logit attribution of one unit of activation, through the final norm and the unembedding.",
            _tall(plain_line(held.value, name), 200),
        ),
        ("tokens", "Numbers it speaks for and against most", "The ends of the same line.", plain_tokens(held.value)),
    ]  # fmt: skip
    if held.effects is not None and len(held.effects):
        inside = _inside(held, name, pairs)
        shown = plain_effects(held.effects, inside, name=name or "the heuristic")
        text = "Exact effect of patching it, prompt by prompt. Positive: it speaks for the answer."
        drawn.append(("effects", "Patching effect over prompts", text, shown))
    if held.cases is not None and len(held.cases.answer) and moved(held.cases):
        falls, of = fallen(held.cases)
        shown = plain_drops(falls, held.cases.after != held.cases.answer, of=of)
        text = f"Fall of the answer’s {of} when this neuron alone is zeroed, on prompts answered correctly."
        if of == "lead":
            text += " Lead: its logit less the largest other one; another answer is given where it falls below 0."
        drawn.append(("drops", "Knockout, prompt by prompt", text, shown))
    return drawn


def fallen(cases: Cases) -> tuple[np.ndarray, str]:
    """What zeroing takes from each prompt's answer: its lead, or, in older runs, its log probability; with its name."""
    return (cases.drop, "log probability") if cases.fall is None else (cases.fall, "lead")


def _tall(figure: theme.Plain, height: int) -> theme.Plain:
    return figure | {"layout": figure["layout"] | {"height": height}}


def _inside(held: NeuronMap, name: str | None, pairs: np.ndarray | None) -> np.ndarray | None:
    """Of which pairs' clean prompts the heuristic holds."""
    if name is None or pairs is None or held.effects is None or len(pairs) != len(held.effects):
        return None
    where = masks.mask(name, held.operator, held.first, (held.k.shape[0], held.k.shape[1]))
    at = pairs - held.first
    if where is None or (at < 0).any() or (at >= held.k.shape[0]).any():
        return None
    return np.asarray(where[at[:, 0], at[:, 1]])


def broken(held: NeuronMap) -> dict[str, Any] | None:
    """What zeroing the neuron does, in words, and the prompts that fall most where anything moves."""
    cases = held.cases
    if cases is None or not len(cases.answer):
        return None
    changed = cases.after != cases.answer
    falls, of = fallen(cases)
    order = [int(i) for i in np.lexsort((-falls, ~changed)) if changed[i] or abs(falls[i]) >= NOTHING]
    sign = theme.OPERATOR_SIGNS.get(held.operator, held.operator)
    lines = [
        {
            "prompt": f"{cases.op1[i]}{sign}{cases.op2[i]}=",
            "answer": int(cases.answer[i]),
            "after": int(cases.after[i]),
            "fall": float(falls[i]),
        }
        for i in order[:BROKEN]
    ]
    return {"said": breaks(cases), "of": of, "rows": lines}
