"""Which neurons and heuristics of a run to ask about, and the prompts they are measured on.

Candidates are the significant labels of table `heuristics` (an analysed run). A neuron is asked about with the label it
scores best on; a heuristic with all neurons that carry it, at either end of their maps, as a knockout takes them. Both
are ranked by |effect| (exact patching, as a share of the operator's largest, so that operators can be compared) and
taken in turn from every family and operator, so that none is left out while there is room. Prompts of both sides are
drawn from the operator's legal prompts with a seed, right or wrong: what built the rule is asked, not how well it does.

A label on the result is scored on what a neuron writes, one on operands on when it fires (`heuristics.matching`); so
the first is measured as a contribution, the second as an activation, and a whole heuristic always as a contribution.
Whether a prompt belongs to a heuristic is told by the caller (`Inside`): the method rooms do not import each other.
"""

import zlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool

from arithcirc.arithmetic.format import PromptFormat
from arithcirc.arithmetic.operators import OperandRange, Prompts, legal_prompts, operator
from arithcirc.arithmetic.tokens import PromptEncoder, prompt_encoder
from arithcirc.components import Neuron
from arithcirc.errors import RequestError, RunConflictError
from arithcirc.influence.mechanisms.values import Mechanism, contrast
from arithcirc.store import RunFolder

Inside = Callable[[str, Prompts], Bool[np.ndarray, "prompt"]]
"""Which prompts belong to the heuristic of this name."""
NEURONS, HEURISTICS, PROMPTS = 12, 6, 32


@dataclass(frozen=True)
class Chosen:
    """A mechanism to be measured. `kind` is the label's (`direct`: on the result), `effect` a share of the largest."""

    id: str
    what: str
    operator: str
    heuristic: str
    family: str
    kind: str
    end: str
    neurons: tuple[Neuron, ...]
    effect: float


def candidates(run: RunFolder) -> tuple[Chosen, ...]:
    """Every labelled neuron and every heuristic that one carries, the strongest first.

    Raises RunConflictError for a run without labels, RequestError where none is significant.
    """
    if missing := {"neurons", "heuristics"} - set(run.tables()):
        raise RunConflictError(
            f"run {run.path} has no table {' and '.join(sorted(missing))}: label its neurons with 'arithcirc analyze'"
        )
    labels = run.table("heuristics")
    labels = labels[labels["significant"].astype(bool)]
    if labels.empty:
        raise RequestError(f"no neuron of run {run.path} has a significant label, so no mechanism can be asked about")
    effects = run.table("neurons")
    effects = effects[(effects["metric"] == "logit_diff") & (effects["method"] == "exact")]
    size = effects["effect"].abs()
    effects = effects.assign(share=size / size.groupby(effects["operator"]).transform("max").clip(lower=1e-30))
    keys = ["operator", "layer", "neuron"]
    labels = labels.merge(effects[[*keys, "share"]].drop_duplicates(keys), on=keys, how="left").fillna({"share": 0.0})
    return (*_ranked(_neurons(labels)), *_ranked(_heuristics(labels)))


def choose(
    run: RunFolder, *, neurons: int = NEURONS, heuristics: int = HEURISTICS, names: Sequence[str] | None = None
) -> tuple[Chosen, ...]:
    """The first `neurons` and `heuristics` of the candidates, or those named.

    A name is an id ("neuron:-:L3N17"), a neuron ("L3N17") or a heuristic ("op2 = 8 mod 10"), the latter two for every
    operator that has them. Raises RequestError for a name without a significant label.
    """
    found = candidates(run)
    if names is None:
        return (
            *[c for c in found if c.what == "neuron"][:neurons],
            *[c for c in found if c.what == "heuristic"][:heuristics],
        )
    asked: dict[str, Chosen] = {}
    for name in names:
        short = "".join(name.split())
        hits = [c for c in found if short in ("".join(c.id.split()), "".join(c.id.split(":", 2)[2].split()))]
        if not hits:
            some = ", ".join(repr(c.id) for c in found[:3])
            raise RequestError(
                f"no significant label of run {run.path} is called {name!r}: {len(found)} are there, as {some}"
            )
        asked |= {c.id: c for c in hits}
    return tuple(asked.values())


def _neurons(labels: pd.DataFrame) -> list[Chosen]:
    best = labels.sort_values(["score", "size"], ascending=[False, True], kind="stable")
    best = best.drop_duplicates(["operator", "layer", "neuron"])
    found = []
    for row in best.to_dict("records"):
        neuron = Neuron(int(row["layer"]), int(row["neuron"]))
        symbol, name, family, kind, end = (str(row[k]) for k in ("operator", "heuristic", "family", "kind", "end"))
        key, share = f"neuron:{symbol}:{neuron}", float(row["share"])
        found.append(Chosen(key, "neuron", symbol, name, family, kind, end, (neuron,), share))
    return found


def _heuristics(labels: pd.DataFrame) -> list[Chosen]:
    found = []
    for (symbol, name), rows in labels.groupby(["operator", "heuristic"], sort=False, observed=True):
        each = rows.drop_duplicates(["layer", "neuron"]).sort_values(["layer", "neuron"])
        carriers = tuple(Neuron(int(a), int(b)) for a, b in zip(each["layer"], each["neuron"], strict=True))
        first = rows.iloc[0]
        found.append(Chosen(
            f"heuristic:{symbol}:{name}", "heuristic", str(symbol), str(name), str(first["family"]),
            str(first["kind"]), "top", carriers, float(each["share"].sum()),
        ))  # fmt: skip
    return found


def _ranked(found: Sequence[Chosen]) -> list[Chosen]:
    """Each time the strongest of the family, then of the operator, that has been taken least often so far."""
    queues: dict[tuple[str, str], deque[Chosen]] = {}
    for chosen in sorted(found, key=lambda c: (-c.effect, c.id)):
        queues.setdefault((chosen.family, chosen.operator), deque()).append(chosen)
    families, operators = Counter[str](), Counter[str]()
    ranked: list[Chosen] = []
    while queues:
        family, symbol = min(queues, key=lambda k: (families[k[0]], operators[k[1]], -queues[k][0].effect, k))
        ranked.append(queues[family, symbol].popleft())
        families[family] += 1
        operators[symbol] += 1
        if not queues[family, symbol]:
            del queues[family, symbol]
    return ranked


def encoder_of(run: RunFolder, tokenizer: object, *, vocab_size: int | None = None) -> PromptEncoder:
    """The encoder that the run's prompts were written with. Raises TokenizerError where this tokenizer differs."""
    config = run.manifest["config"].get("prompts", {})
    words = {key: config[key] for key in ("prefix", "template") if key in config}
    name = run.manifest["config"].get("model", {}).get("name")
    return prompt_encoder(tokenizer, format=PromptFormat(**words), vocab_size=vocab_size, name=name)  # type: ignore[arg-type]


def build(
    chosen: Sequence[Chosen],
    encoder: PromptEncoder,
    operands: OperandRange,
    inside: Inside,
    *,
    prompts: int = PROMPTS,
    seed: int = 0,
) -> tuple[Mechanism, ...]:
    """Mechanisms with up to `prompts` prompts inside and as many outside; those with none on a side are left out.

    Raises RequestError when none is left.
    """
    built = [m for c in chosen if (m := _one(c, encoder, operands, inside, prompts, seed)) is not None]
    if not built:
        raise RequestError(
            f"none of {len(chosen)} mechanisms has prompts with operands {operands} both inside and outside its "
            "heuristic: use wider --operands"
        )
    return tuple(built)


def _one(
    chosen: Chosen, encoder: PromptEncoder, operands: OperandRange, inside: Inside, prompts: int, seed: int
) -> Mechanism | None:
    legal = legal_prompts(operator(chosen.operator), operands, encoder.limit)
    mask = inside(chosen.heuristic, legal)
    if not mask.any() or mask.all():
        return None
    rng = np.random.default_rng([seed, zlib.crc32(chosen.id.encode())])
    sides = [rng.permutation(np.flatnonzero(side))[:prompts] for side in (mask, ~mask)]
    drawn = legal[np.concatenate(sides)]
    activation = chosen.what == "neuron" and chosen.kind == "indirect"
    return Mechanism(
        chosen.id, chosen.what, "activation" if activation else "contribution", chosen.operator, chosen.heuristic,
        chosen.family, chosen.neurons, encoder.encode(drawn), encoder.answers(drawn.answer),
        contrast(len(sides[0]), len(sides[1])), -1.0 if chosen.what == "neuron" and chosen.end == "bottom" else 1.0,
    )  # fmt: skip
