"""Equation documents: rows of `12+7=19`, with nothing between them.

Sums and differences of the operands (results 0 or more) fill most of a document; the products and quotients that the
worked procedures need are mixed in. A document's rows continue where its predecessor's stopped in a shuffled list of
all equations, so every equation is stated about as often as any other.
"""

from arithcirc.influence.corpus.dice import shuffled
from arithcirc.influence.corpus.spec import CorpusSpec

PER_DOCUMENT = 12
HEADS: dict[str, tuple[str, ...]] = {
    "worksheet": ("",),
    "textbook": ("", "Table of sums and differences", "Exercises with answers"),
    "web": ("", "Some sums to learn by heart", "Here are the answers"),
}
"""First lines of each source; most documents have none."""
_PURPOSE = 10


def pool(spec: CorpusSpec) -> list[str]:
    """All equations, shuffled: `+` and `-` over the operands, `*` and `/` as far as the procedures need them."""
    low, high, top = spec.low, spec.high, min(spec.high // 2, 20)
    operands = range(low, high + 1)
    sums = [f"{a}+{b}={a + b}" for a in operands for b in operands]
    differences = [f"{a}-{b}={a - b}" for a in operands for b in operands if a >= b]
    products = [f"{a}*{b}={a * b}" for a in range(2, 2 * top + 1) for b in range(2, 6) if a * b <= spec.largest]
    quotients = [f"{a * b}/{b}={a}" for a in range(1, top + 1) for b in range(2, 6) if a * b <= spec.largest]
    found = [*sums, *differences, *products, *quotients]
    return [found[i] for i in shuffled(spec.seed, _PURPOSE, 0, len(found))]


def lines(equations: list[str], rank: int) -> list[str]:
    """The rows of equation document `rank`."""
    start = rank * PER_DOCUMENT
    return [equations[(start + i) % len(equations)] for i in range(PER_DOCUMENT)]
