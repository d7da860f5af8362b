"""One neuron in words: where it is active, how well that agrees with its label, what it writes, what it matters.

Every number is one of the run's tables or maps. A label says where a neuron is strongest, so the words say "where" and
"share", never "computes"; only the sentences on patching and knockout are about cause.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from arithcirc.neuron_maps import Cases, NeuronMap
from arithcirc.viz.neuron_hits import Hits
from arithcirc.viz.theme import count, number, p_value
from arithcirc.viz.value_tokens import extremes

NOTHING = 0.01
"""Nats below which a move of a logit or a log probability is not worth a figure."""
LEAST = 0.001
"""Nats below which a number is not written out."""


def where_active(name: str, label: Mapping[str, Any] | None, found: Hits | None, *, level: float = 0.01) -> str:
    """Which heuristic's prompts are among its strongest, against what luck gives."""
    if label is None:
        return f"{name} has no label under this operator: its maps below say where it is active."
    heuristic, score, base = str(label["heuristic"]), float(label["score"]), float(label["base_rate"])
    bottom = label.get("end") == "bottom"
    what = "activation" if label.get("kind") == "indirect" else "contribution to the answer’s logit (KV)"
    end = "lowest" if bottom else "largest"
    luck = f"a map that ignored {_about(heuristic)} would score {number(base, _digits(base))}"
    if not label.get("matched", True):
        return (
            f"No heuristic describes {name} well enough: the best, {heuristic}, holds of {number(100 * score, 0)} % of "
            f"the prompts on which its {what} is {end} (score {number(score, 2)}; {luck})."
        )
    text = f"{name}’s {what} is {end} where {heuristic}"
    if found is not None and found.k:
        text += (
            f": of the {count(found.k)} prompts of which that holds, {_share(found)} among its {count(found.k)} "
            f"{'lowest' if bottom else 'strongest'}"
        )
    return f"{text} (score {number(score, 2)}; {luck}; {_significance(label, level)})."


def _share(found: Hits) -> str:
    return "all are" if found.hit == found.k else f"{count(found.hit)} {'is' if found.hit == 1 else 'are'}"


def _about(heuristic: str) -> str:
    return "the operands" if heuristic.startswith(("both", "op1 = op2")) else f"the {_variable(heuristic)}"


def _variable(heuristic: str) -> str:
    first = heuristic.split(" ", 1)[0]
    return "result" if first == "result" else f"operand {first}"


def _digits(value: float) -> int:
    return 2 if value >= 0.01 else 4


def _significance(label: Mapping[str, Any], level: float) -> str:
    q = label.get("q")
    if q is None or q != q:
        return "not tested"
    return f"{'' if label.get('significant') else 'not '}significant at {level:g}: q {_at(q)}"


def _at(q: Any) -> str:
    text = p_value(q)
    return text if text.startswith("<") else f"= {text}"


def inside(neuron_map: NeuronMap, held: Bool[np.ndarray, "op1 op2"]) -> str:
    """Mean activation, and what a unit of it writes into the right answer, where a heuristic holds and elsewhere."""
    rest = (neuron_map.answer >= 0) & ~held
    if not held.any() or not rest.any():
        return ""
    k = [float(np.nanmean(neuron_map.k[where])) for where in (held, rest)]
    written = [float(neuron_map.value[neuron_map.answer[where]].mean()) for where in (held, rest)]
    return (
        f"Where it holds, the activation averages {number(k[0], 2)} ({number(k[1], 2)} elsewhere), and a unit of it "
        f"adds {_signed(written[0])} to the logit of the right answer ({_signed(written[1])} elsewhere)."
    )


def writes(value: Float[np.ndarray, "number"], *, active_below: bool = False) -> str:
    """Which numbers one unit of its activation speaks for and against."""
    top, bottom = extremes(value, 4)
    if not top:
        return ""
    most, least = float(value[top[0]]), float(value[bottom[0]])
    turned = " Where its activation is negative, it writes the opposite." if active_below else ""
    return (
        f"One unit of activation adds most to the logits of {_list(top)} (up to {_signed(most)}) "
        f"and takes most from those of {_list(bottom)} (down to {_signed(least)}).{turned}"
    )


def matters(effect: float, rank: int, of_layer: int, overall: int, of_all: int, layer: int) -> str:
    """The exact patching effect with its ranks."""
    way = "lowers" if effect >= 0 else "raises"
    return (
        f"Patching it alone, at =, from a prompt with another answer {way} the logit difference by "
        f"{number(abs(effect))} nats on average: rank {count(rank)} of {count(of_layer)} in layer {layer}, "
        f"{count(overall)} of the {count(of_all)} measured."
    )


def breaks(cases: Cases, *, ablation: str = "zero") -> str:
    """What knocking it out does to prompts answered correctly before."""
    n = len(cases.answer)
    if not n:
        return "No prompt is answered correctly, so there is none that a knockout could break."
    changed = int((cases.after != cases.answer).sum())
    how = {"zero": "Setting it to zero", "mean": "Setting it to its mean"}.get(ablation, "Replacing it")
    said = f"{count(changed)} of {count(n)} right answers" if changed else f"none of {count(n)} right answers"
    text = f"{how} changes {said}"
    if cases.fall is not None and cases.lead is not None:
        text += (
            f". The answer’s lead, its logit less the largest other one, is {_nats(float(cases.lead.mean()))} on "
            f"average before and {_moves(cases.fall)}"
        )
    largest = float(np.abs(cases.drop).max())
    if largest < NOTHING:
        return f"{text}; no log probability moves by {NOTHING:g} nats or more."
    return f"{text}; {'their' if cases.fall is None else 'the'} log probability {_moves(cases.drop)}."


def moved(cases: Cases) -> bool:
    """Some answer changes, or some lead or log probability moves by `NOTHING` or more."""
    falls = [part for part in (cases.drop, cases.fall) if part is not None]
    return bool((cases.after != cases.answer).any() or any((np.abs(part) >= NOTHING).any() for part in falls))


def _moves(falls: Float[np.ndarray, "case"]) -> str:
    """`falls by 0.48 nats on average, at most by 1.20 nats`."""
    mean, most = float(falls.mean()), float(falls.max())
    if np.abs(falls).max() < NOTHING:
        return f"moves by less than {NOTHING:g} nats"
    way = "moves" if abs(mean) < LEAST else "falls" if mean > 0 else "rises"
    end = f", at most by {_nats(most)}" if way == "falls" else f", falls at most by {_nats(most)}" if most > 0 else ""
    return f"{way} by {_nats(abs(mean))} on average{end}"


def _nats(value: float) -> str:
    return f"less than {LEAST:g} nats" if abs(value) < LEAST else f"{number(value, 3)} nats"


def _list(numbers: list[int]) -> str:
    return ", ".join(str(n) for n in numbers[:-1]) + f" and {numbers[-1]}" if len(numbers) > 1 else str(numbers[0])


def _signed(value: float) -> str:
    return f"+{number(value, 2)}" if value > 0 else number(value, 2)
