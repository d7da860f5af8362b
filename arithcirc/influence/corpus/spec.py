"""What a corpus is asked to be: size, seed, numbers, shares of kinds, queries; checked, frozen, written as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from arithcirc.arithmetic.operators import OperandRange
from arithcirc.errors import RequestError
from arithcirc.influence.documents import KINDS

SHARES = (("equation", 0.35), ("procedure", 0.25), ("code", 0.07), ("fact", 0.25), ("distractor", 0.08))
FEWEST, MOST = 200, 5_000_000
_SMALLEST_HIGH, _LARGEST_LIMIT, _SHORTEST = 9, 9_999, 96


@dataclass(frozen=True)
class CorpusSpec:
    """A corpus to make. Two equal specs give the same bytes.

    `operands`: range of the equations' operands. `limit`: largest number of the vocabulary (None: enough for sums of
    two operands, 99 at least). `shares`: share of documents of each kind, in their sum's parts. `max_tokens`: longest
    document. `reasoning`: queries of each of the three tasks; `factual`, `controls`: queries of each such group.
    """

    documents: int = 4000
    seed: int = 0
    operands: str = "0..19"
    limit: int | None = None
    shares: tuple[tuple[str, float], ...] = SHARES
    max_tokens: int = 128
    reasoning: int = 8
    factual: int = 20
    controls: int = 8
    _range: OperandRange = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_range", OperandRange.parse(self.operands))
        object.__setattr__(self, "operands", str(self._range))
        object.__setattr__(self, "shares", _checked_shares(self.shares))
        _whole("documents", self.documents, FEWEST, MOST)
        _whole("seed", self.seed, 0, 2**32)
        _whole("max_tokens", self.max_tokens, _SHORTEST, 100_000)
        for name in ("reasoning", "factual", "controls"):
            _whole(f"number of {name} queries", getattr(self, name), 0, 1000)
        if self.high < _SMALLEST_HIGH:
            raise RequestError(f"operands {self.operands} are too small: worked steps need 0..{_SMALLEST_HIGH} or more")
        if self.limit is not None:
            _whole("limit", self.limit, max(2 * self.high, 40), _LARGEST_LIMIT)
        elif 2 * self.high > _LARGEST_LIMIT:
            raise RequestError(f"operands {self.operands} are too large: use at most 0..{_LARGEST_LIMIT // 2}")

    @property
    def low(self) -> int:
        """Smallest operand."""
        return self._range.low

    @property
    def high(self) -> int:
        """Largest operand."""
        return self._range.high

    @property
    def largest(self) -> int:
        """Largest number of the vocabulary."""
        return self.limit if self.limit is not None else max(99, 2 * self.high)

    def counts(self) -> dict[str, int]:
        """How many documents of each kind, by largest remainder; sums to `documents`."""
        total = sum(share for _, share in self.shares)
        exact = {kind: self.documents * share / total for kind, share in self.shares}
        found = {kind: int(value) for kind, value in exact.items()}
        by_remainder = sorted(exact, key=lambda kind: (found[kind] - exact[kind], KINDS.index(kind)))
        for kind in by_remainder[: self.documents - sum(found.values())]:
            found[kind] += 1
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values, as in corpus.json."""
        values = {name: value for name, value in asdict(self).items() if not name.startswith("_")}
        return values | {"shares": dict(self.shares)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "CorpusSpec":
        """The spec of `to_json`. Raises RequestError naming a field that is not known."""
        known = {f.name for f in fields(cls) if f.init}
        if unknown := sorted(set(values) - known):
            raise RequestError(f"unknown corpus setting(s) {', '.join(unknown)}: known are {', '.join(sorted(known))}")
        kept = dict(values)
        if "shares" in kept:
            kept["shares"] = tuple(dict(kept["shares"]).items())
        return cls(**kept)


def parse_shares(text: str) -> tuple[tuple[str, float], ...]:
    """`"fact=0.5,equation=0.5"` -> shares; kinds left out get none. Raises RequestError."""
    found = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        kind, equals, value = part.partition("=")
        try:
            found.append((kind.strip(), float(value)))
        except ValueError:
            equals = ""
        if not equals:
            raise RequestError(f"share {part!r} is not understood: write kind=number, for example fact=0.3")
    return _checked_shares(tuple(found))


def _checked_shares(shares: tuple[tuple[str, float], ...]) -> tuple[tuple[str, float], ...]:
    """Every kind once, in the order of KINDS."""
    given = dict(shares)
    if unknown := sorted(set(given) - set(KINDS)):
        raise RequestError(f"unknown kind of document {unknown[0]!r}: use {', '.join(KINDS)}")
    if len(given) != len(shares):
        raise RequestError("a kind of document is given two shares: give each kind once")
    bad = [f"{kind}={share}" for kind, share in given.items() if not 0 <= share < float("inf")]
    if bad or not sum(given.values()) > 0:
        raise RequestError(f"shares {', '.join(bad) or 'are all 0'}: give numbers of 0 or more, one above 0")
    return tuple((kind, float(given.get(kind, 0.0))) for kind in KINDS)


def _whole(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise RequestError(f"{name} is {value}: use {low} to {high}")
