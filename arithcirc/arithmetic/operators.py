"""The four operators and their legal prompts.

A prompt `op1 ∘ op2 =` is legal when its result is an integer in [0, limit]; `/` is integer division with op2 >= 1
(Nikankin et al. 2024, arXiv 2410.21272, section 2; spec section 1). Half of all division prompts answer 0, so an
accuracy means little without `base_rate`, the share of the most frequent answer.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from arithcirc.errors import PromptError

Ints = Int[np.ndarray, "prompt"]


@dataclass(frozen=True)
class Operator:
    """One binary operator: the symbol the model reads and a name for people and file names."""

    symbol: str
    name: str

    def result(self, op1: Ints, op2: Ints) -> Ints:
        """Integer results, shape (prompt,); -1 where the operation is undefined (division by zero)."""
        a, b = np.asarray(op1, dtype=np.int64), np.asarray(op2, dtype=np.int64)
        if self.symbol == "+":
            return a + b
        if self.symbol == "-":
            return a - b
        if self.symbol == "*":
            return a * b
        return np.where(b > 0, a // np.maximum(b, 1), -1)

    def __str__(self) -> str:
        return self.symbol


ADD, SUB, MUL, DIV = Operator("+", "add"), Operator("-", "sub"), Operator("*", "mul"), Operator("/", "div")
OPERATORS: tuple[Operator, ...] = (ADD, SUB, MUL, DIV)
_ALIASES = {alias: o for o in OPERATORS for alias in (o.symbol, o.name)} | {"x": MUL, "×": MUL, "÷": DIV, "−": SUB}


def operator(symbol: str) -> Operator:
    """The operator with this symbol (`+ - * /`) or name (`add sub mul div`). Raises PromptError."""
    try:
        return _ALIASES[symbol.strip()]
    except KeyError:
        raise PromptError(f"unknown operator {symbol!r}: use one of + - * / (or add, sub, mul, div)") from None


def parse_operators(text: str) -> tuple[Operator, ...]:
    """`"+-"`, `"+,-"`, `"add sub"` -> operators, in the order given, without repeats. Raises PromptError."""
    words = text.replace(",", " ").split()
    symbols = [c for w in words for c in ([w] if w in _ALIASES else list(w))]
    found = tuple(dict.fromkeys(operator(s) for s in symbols))
    if not found:
        raise PromptError("no operator given: use any of + - * /, for example --operators '+-'")
    return found


@dataclass(frozen=True)
class OperandRange:
    """Inclusive range of operand values, written `0..299`."""

    low: int = 0
    high: int = 299

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise PromptError(f"operand range {self} is empty or negative: use LOW..HIGH with 0 <= LOW <= HIGH")

    @classmethod
    def parse(cls, text: str) -> "OperandRange":
        """`"0..299"` -> OperandRange(0, 299). Raises PromptError."""
        low, dots, high = text.partition("..")
        if not dots or not low.strip().isdecimal() or not high.strip().isdecimal():
            raise PromptError(f"operand range {text!r} is not understood: write LOW..HIGH, for example 0..299")
        return cls(int(low), int(high))

    def __str__(self) -> str:
        return f"{self.low}..{self.high}"

    def __len__(self) -> int:
        return self.high - self.low + 1


@dataclass(frozen=True)
class Prompts:
    """Prompts of any operators, column by column; every column has shape (prompt,)."""

    symbols: np.ndarray
    op1: Ints
    op2: Ints
    answer: Ints

    def __len__(self) -> int:
        return len(self.answer)

    def __getitem__(self, index: np.ndarray | slice) -> "Prompts":
        return Prompts(self.symbols[index], self.op1[index], self.op2[index], self.answer[index])

    def texts(self) -> list[str]:
        """`["226-68=", ...]`: the plain form, whatever template the model sees."""
        columns = zip(self.op1, self.symbols, self.op2, strict=True)
        return [f"{a}{s}{b}=" for a, s, b in columns]


def concatenate(parts: Iterable[Prompts]) -> Prompts:
    """One Prompts from several, in order."""
    items = list(parts)
    return Prompts(*(np.concatenate([getattr(p, c) for p in items]) for c in ("symbols", "op1", "op2", "answer")))


def all_prompts(op: Operator, operands: OperandRange) -> Prompts:
    """Every prompt with both operands in range, legal or not, op1-major. Illegal answers are out of [0, limit]."""
    values = np.arange(operands.low, operands.high + 1)
    op1, op2 = (g.ravel() for g in np.meshgrid(values, values, indexing="ij"))
    return Prompts(np.full(len(op1), op.symbol), op1, op2, op.result(op1, op2))


def fitting_prompts(op: Operator, operands: OperandRange, limit: int) -> Prompts:
    """Every prompt whose result is an integer in [0, limit]; there may be none."""
    prompts = all_prompts(op, operands)
    return prompts[(prompts.answer >= 0) & (prompts.answer <= limit)]


def legal_prompts(op: Operator, operands: OperandRange, limit: int) -> Prompts:
    """The fitting prompts. Raises PromptError when there are none, or an operand is beyond the limit."""
    if operands.high > limit:
        raise PromptError(
            f"operands {operands} exceed {limit}, the largest number this tokenizer writes as one token: "
            f"use --operands {min(operands.low, limit)}..{limit} or less"
        )
    legal = fitting_prompts(op, operands, limit)
    if not len(legal):
        raise PromptError(f"no legal prompt for {op.symbol} with operands {operands} and results 0..{limit}")
    return legal


def base_rate(prompts: Prompts) -> float:
    """Share of the most frequent answer: what a model scores by always saying that number."""
    counts = np.bincount(prompts.answer)
    return float(counts.max() / counts.sum())
