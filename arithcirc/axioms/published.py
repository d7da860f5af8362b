"""Accuracies that were published for transitivity and its neighbours, as far as they can be recovered.

arXiv 2407.07612. The tables of its second and third version are not in any text at hand; those of the first survive in
second-hand copies, and single numbers in the authors' repository. Every row says where it is from:

    transcription   a third party's repository that copied tables of v1 (inquisitour/axiomatization-learning); where
                    the digest prints the same number they agree
    digest          a summary of v1 in Chinese
    repository      the authors' own result files (AniketVashishtha/Causal_Axioms)
    not recovered   nothing is known; the value is NaN

Names of models are as printed there: TS1, TS2 and OCC with NoPE, SPE, LPE or RoPE (no, sinusoidal, learned, rotary
positions) are the paper's 67M models. Its length sets ask 500 questions about a handful of graphs, so that differences
of some points between neighbouring lengths are noise.
"""

import math
from dataclasses import dataclass

import pandas as pd

TRANSCRIPTION, DIGEST, REPOSITORY, MISSING = "transcription", "digest", "repository", "not recovered"
SOURCES = (TRANSCRIPTION, DIGEST, REPOSITORY, MISSING)
TRANSITIVITY, CORRELATION, SEPARATION = "transitivity", "correlation to causation", "d-separation"
POSITIONS_AS_PRINTED = {"NoPE": "none", "SPE": "sinusoidal", "LPE": "learned", "RoPE": "rotary"}
"""The paper's names of positions -> ours."""


@dataclass(frozen=True)
class Published:
    """One published number. `nodes` None: of no one size; `value` NaN: not recovered. `mix`, `positions`: ours."""

    task: str
    model: str
    family: str
    nodes: int | None
    factor: float | None
    metric: str
    value: float
    source: str
    mix: str = ""
    positions: str = ""
    note: str = ""


_LENGTHS, _REVERSED, _SHUFFLED, _BRANCHING = range(7, 16), range(3, 7), range(3, 10), (5, 8, 10, 12)
_UNSURE = "the copy does not say whether of sequential or of flipped chains"
_TITLED = "titled as node names in the copy; the digest shows that it is shuffling"
_LENGTH_10 = "the released file of length 10 holds chains of 15 nodes"
_Row = tuple[str, str, str, float | None, tuple[int, ...] | range, tuple[float, ...], str]
_TRANSITIVITY: tuple[_Row, ...] = (
    ("TS2", "NoPE", "sequential", None, _LENGTHS, (1.00, 0.99, 0.92, 0.88, 0.86, 0.95, 0.96, 0.81, 0.85), ""),
    ("TS2", "SPE", "sequential", None, _LENGTHS, (0.99, 0.95, 0.86, 0.80, 0.76, 0.84, 0.79, 0.85, 0.77), _UNSURE),
    ("TS2", "LPE", "sequential", None, _LENGTHS, (0.98, 0.92, 0.77, 0.59, 0.57, 0.57, 0.55, 0.51, 0.50), _UNSURE),
    ("GPT-4", "", "sequential", None, _LENGTHS, (0.95, 0.97, 0.87, 0.91, 0.90, 0.92, 0.85, 0.93, 0.89), _UNSURE),
    ("Gemini Pro", "", "sequential", None, _LENGTHS, (0.63, 0.69, 0.64, 0.65, 0.72, 0.60, 0.59, 0.67, 0.61), _UNSURE),
    ("Phi-3", "", "sequential", None, _LENGTHS, (0.81, 0.96, 0.85, 0.87, 0.90, 0.84, 0.91, 0.90, 0.78), _UNSURE),
    ("TS2", "NoPE", "reversal", None, _REVERSED, (0.99, 0.99, 0.95, 0.94), ""),
    ("GPT-4", "", "reversal", None, _REVERSED, (0.97, 0.99, 0.98, 0.92), ""),
    ("Gemini Pro", "", "reversal", None, _REVERSED, (0.61, 0.59, 0.66, 0.62), ""),
    ("Phi-3", "", "reversal", None, _REVERSED, (0.80, 0.69, 0.73, 0.69), ""),
    ("TS2", "NoPE", "shuffled", None, _SHUFFLED, (1.00, 0.95, 0.87, 0.84, 0.79, 0.76, 0.73), _TITLED),
    ("GPT-4", "", "shuffled", None, _SHUFFLED, (0.99, 0.97, 0.89, 0.85, 0.95, 0.90, 0.90), _TITLED),
    ("Gemini Pro", "", "shuffled", None, _SHUFFLED, (0.75, 0.73, 0.72, 0.76, 0.71, 0.68, 0.74), _TITLED),
    ("Phi-3", "", "shuffled", None, _SHUFFLED, (0.88, 0.86, 0.82, 0.79, 0.76, 0.73, 0.79), _TITLED),
    ("TS2", "NoPE", "branching", 1.4, _BRANCHING, (0.86, 0.77, 0.74, 0.70), ""),
    ("TS2", "NoPE", "branching", 2.0, _BRANCHING, (0.83, 0.74, 0.69, 0.64), ""),
    ("GPT-4", "", "branching", 1.4, _BRANCHING, (0.95, 0.90, 0.88, 0.86), ""),
    ("GPT-4", "", "branching", 2.0, _BRANCHING, (0.98, 0.91, 0.84, 0.82), ""),
    ("Gemini Pro", "", "branching", 1.4, _BRANCHING, (0.74, 0.76, 0.73, 0.71), ""),
    ("Gemini Pro", "", "branching", 2.0, _BRANCHING, (0.77, 0.72, 0.71, 0.73), ""),
)
_METRICS = ("precision", "recall", "F1", "accuracy")
_CORRELATION = {
    "67M": (0.72, 0.50, 0.59, 0.64),
    "GPT-4": (0.59, 0.50, 0.54, 0.58),
    "Gemini Pro": (0.52, 0.59, 0.55, 0.52),
    "Phi-3": (0.52, 0.60, 0.56, 0.52),
}
_SEPARATION = {
    "Llama-3-8B-Instruct": (0.516, 0.502, 0.544, 0.510, 0.482, 0.514, 0.530, 0.512, 0.514),
    "Llama-3-8B-Instruct + LoRA": (0.952, 0.948, 0.954, 0.850, 0.870, 0.880, 0.734, 0.662, 0.560),
}
_NOT_RECOVERED: tuple[tuple[str, str, str, str], ...] = (
    *((mix, "NoPE", family, "") for mix in ("TS1", "OCC") for family in ("sequential", "flipped", "reversal")),
    *((mix, "NoPE", family, "") for mix in ("TS1", "OCC") for family in ("shuffled", "branching")),
    *(("TS2", kind, family, "") for kind in ("SPE", "LPE") for family in ("flipped", "reversal", "shuffled")),
    *(("TS2", kind, "branching", "") for kind in ("SPE", "LPE")),
    ("TS2", "NoPE", "names", "a figure without numbers: said to be robust"),
    ("TS2", "SPE", "names", "a figure without numbers: said to fail on short chains"),
    ("TS2", "LPE", "names", "a figure without numbers: said to fail on short chains"),
    ("TS2", "RoPE", "sequential", "later versions: said to generalise to longer chains"),
)


def published() -> tuple[Published, ...]:
    """Every number that is known, then what is known to have been published and is not recovered."""
    found = [
        _transitivity(model, kind, family, factor, nodes, value, _noted(note, family, nodes))
        for model, kind, family, factor, sizes, values, note in _TRANSITIVITY
        for nodes, value in zip(sizes, values, strict=True)
    ]
    found.append(
        _transitivity("TS2", "NoPE", "flipped", None, 15, 0.78, "one number for 14 to 15 nodes", source=DIGEST)
    )
    found += [
        Published(CORRELATION, model, "", None, None, metric, value, TRANSCRIPTION, note="3 to 6 variables")
        for model, values in _CORRELATION.items()
        for metric, value in zip(_METRICS, values, strict=True)
    ]
    found += [
        Published(SEPARATION, model, "flipped", nodes, None, "accuracy", value, REPOSITORY, note="one premise a length")
        for model, values in _SEPARATION.items()
        for nodes, value in zip(_LENGTHS, values, strict=True)
    ]
    found += [
        _transitivity(mix, kind, family, None, None, math.nan, note, source=MISSING)
        for mix, kind, family, note in _NOT_RECOVERED
    ]
    return tuple(found)


def _noted(note: str, family: str, nodes: int) -> str:
    """The row's note, and that of its size; notes are put together with `; `."""
    return "; ".join(n for n in (note, _LENGTH_10 if (family, nodes) == ("sequential", 10) else "") if n)


def published_table() -> pd.DataFrame:
    """`published` as a table, one column for each field of `Published`."""
    table = pd.DataFrame([vars(row) for row in published()])
    return table.astype({"nodes": "Int64", "factor": "Float64", "value": "float64"})


def _transitivity(
    model: str, kind: str, family: str, factor: float | None, nodes: int | None, value: float, note: str,
    *, source: str = TRANSCRIPTION,
) -> Published:  # fmt: skip
    """A row of transitivity; `kind` is the paper's name of positions, empty for other people's models."""
    mix = model if kind else ""
    printed = f"{model} {kind}".strip()
    positions = POSITIONS_AS_PRINTED.get(kind, "")
    return Published(TRANSITIVITY, printed, family, nodes, factor, "accuracy", value, source, mix, positions, note)
