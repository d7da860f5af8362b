"""From numbers to token ids, and where each number stands.

The tokenizer is asked, never assumed: the single-token limit is read off it, every number is tokenised in its place in
the template, and the answer's token is the one that follows the prompt. A prompt is
`[BOS] prefix-tokens op1 operator op2 =`, with exactly one BOS, which we prepend ourselves because tokenizers disagree
(Pythia's adds none). Rows are then composed from per-slot id tables, which is exact because the templates of one number
are compared token by token with those of every other.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from arithcirc.arithmetic.operators import OPERATORS, Operator, Prompts
from arithcirc.components import Position
from arithcirc.errors import PromptError, TokenizerError

LARGEST_TRIED = 99_999
_SLOTS = ("op1", "operator", "op2")


@runtime_checkable
class Tokenizer(Protocol):
    """The part of a Hugging Face fast tokenizer that is used here."""

    bos_token_id: int | None
    eos_token_id: int | None
    unk_token_id: int | None

    def __call__(self, text: list[str], **options: Any) -> Any:
        """Token ids (and offsets) of each text."""
        ...

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        """The tokens' own spelling."""
        ...


@dataclass(frozen=True)
class PromptFormat:
    """How a prompt is written: `prefix` (few-shot examples, kept as they are) then `template`, ending in `=`."""

    prefix: str = ""
    template: str = "{op1}{operator}{op2}="

    def __post_init__(self) -> None:
        if re.findall(r"\{\w+\}|[{}]", self.template) != ["{" + slot + "}" for slot in _SLOTS]:
            raise PromptError(
                f"template {self.template!r} needs {{op1}}, {{operator}} and {{op2}} once each, in this order, and no "
                "other braces"
            )
        if self.template.endswith("{op2}"):
            raise PromptError(f"template {self.template!r} must end after op2 with the text the answer follows, as '='")

    def text(self, op1: int | str, symbol: str, op2: int | str) -> str:
        """One prompt as the model reads it."""
        return self.prefix + self.template.format(op1=op1, operator=symbol, op2=op2)

    def spans(self, op1: int, symbol: str, op2: int) -> dict[str, tuple[int, int]]:
        """Character spans of op1, operator and op2 in `text(...)`."""
        values = {"op1": str(op1), "operator": symbol, "op2": str(op2)}
        spans, cursor = {}, len(self.prefix)
        rest = self.template
        for slot in _SLOTS:
            before, _, rest = rest.partition("{" + slot + "}")
            cursor += len(before)
            spans[slot] = (cursor, cursor + len(values[slot]))
            cursor += len(values[slot])
        return spans


def _ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    encoded: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return encoded


def single_token_limit(tokenizer: Tokenizer, *, vocab_size: int | None = None) -> int:
    """Largest n such that every number 0..n is one token on its own; TokenizerError when a digit already is not.

    With `vocab_size`, the model's rows of W_E, a token beyond them does not count: a tokenizer may know more numbers
    than the model was given.
    """
    chunk = 2_000
    for start in range(0, LARGEST_TRIED + 1, chunk):
        numbers = range(start, min(start + chunk, LARGEST_TRIED + 1))
        for n, ids in zip(numbers, _ids(tokenizer, [str(n) for n in numbers]), strict=True):
            if len(ids) != 1 or ids[0] == tokenizer.unk_token_id or (vocab_size and ids[0] >= vocab_size):
                if n < 10:
                    raise TokenizerError(f"this tokenizer does not write the digit {n} as one token: it cannot be used")
                return n - 1
    return LARGEST_TRIED


def bos_id(tokenizer: Tokenizer) -> int:
    """The id prepended to every prompt: the tokenizer's BOS, else its EOS. TokenizerError when it names neither."""
    for candidate in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if candidate is not None:
            return int(candidate)
    raise TokenizerError("this tokenizer names neither a BOS nor an EOS token: set bos_token in its configuration")


@dataclass(frozen=True)
class PromptEncoder:
    """Token ids of prompts, answers and positions for one tokenizer and format; build it with `prompt_encoder`."""

    format: PromptFormat
    limit: int
    bos: int
    frame: Int[np.ndarray, "position"]
    slots: dict[str, int]
    op1_ids: Int[np.ndarray, "number"]
    op2_ids: Int[np.ndarray, "number"]
    operator_ids: dict[str, int]
    answer_ids: Int[np.ndarray, "number"]
    tokens_seen: tuple[str, ...] = field(default=())

    @property
    def length(self) -> int:
        """Tokens per prompt, BOS included."""
        return len(self.frame)

    def index(self, position: Position) -> int:
        """Token index of a named position; `equals` is the last token of the prompt."""
        match position:
            case Position.BOS:
                return 0
            case Position.EQUALS:
                return self.length - 1
            case _:
                return self.slots[position.value]

    def encode(self, prompts: Prompts) -> Int[np.ndarray, "prompt position"]:
        """Token ids, shape (prompt, position). Raises PromptError for operands beyond the single-token limit."""
        high = max(int(prompts.op1.max(initial=0)), int(prompts.op2.max(initial=0)))
        if high > self.limit:
            raise PromptError(f"operand {high} is beyond {self.limit}, the largest number this tokenizer keeps whole")
        rows = np.repeat(self.frame[None, :], len(prompts), axis=0)
        rows[:, self.slots["op1"]] = self.op1_ids[prompts.op1]
        rows[:, self.slots["op2"]] = self.op2_ids[prompts.op2]
        rows[:, self.slots["operator"]] = [self.operator_ids[s] for s in prompts.symbols]
        return rows

    def answers(self, values: Int[np.ndarray, "prompt"]) -> Int[np.ndarray, "prompt"]:
        """Token ids of answers. Raises PromptError for values outside 0..limit."""
        outside = np.flatnonzero((values < 0) | (values > self.limit))
        if len(outside):
            raise PromptError(f"answer {int(values[outside[0]])} is not a single token: allowed are 0..{self.limit}")
        ids: np.ndarray = self.answer_ids[values]
        return ids


def _locate(tokenizer: Tokenizer, fmt: PromptFormat) -> dict[str, int]:
    """Token index (without BOS) of op1, operator and op2 in a sample prompt."""
    text = fmt.text(1, "+", 2)
    encoded = tokenizer([text], add_special_tokens=False, return_offsets_mapping=True)
    offsets, ids = encoded["offset_mapping"][0], encoded["input_ids"][0]
    found = {}
    for slot, (start, end) in fmt.spans(1, "+", 2).items():
        covering = [i for i, (a, b) in enumerate(offsets) if a < end and b > start]
        if len(covering) != 1 or text[slice(*offsets[covering[0]])].strip() != text[start:end]:
            shown = tokenizer.convert_ids_to_tokens(list(ids))
            raise TokenizerError(
                f"in {text!r} (tokens {shown}) the {slot} {text[start:end]!r} is not one token of its own"
            )
        found[slot] = covering[0]
    return found


def _slot_table(
    tokenizer: Tokenizer, texts: list[str], sample: list[int], slot: int, numbers: Sequence[str]
) -> Int[np.ndarray, "number"]:
    """Ids that stand at `slot` when the rest is as in `sample`; TokenizerError names the first text that differs."""
    rows = _ids(tokenizer, texts)
    for text, ids, number in zip(texts, rows, numbers, strict=True):
        same_elsewhere = len(ids) == len(sample) and all(
            i == slot or a == b for i, (a, b) in enumerate(zip(ids, sample, strict=True))
        )
        if not same_elsewhere or ids[slot] == tokenizer.unk_token_id:
            shown = tokenizer.convert_ids_to_tokens(list(ids))
            raise TokenizerError(
                f"{text!r} becomes {shown}: {number!r} is not one token there, so its position is lost"
            )
    return np.asarray([ids[slot] for ids in rows], dtype=np.int64)


def prompt_encoder(
    tokenizer: Tokenizer,
    *,
    format: PromptFormat | None = None,
    operators: Sequence[Operator] = OPERATORS,
    limit: int | None = None,
    vocab_size: int | None = None,
) -> PromptEncoder:
    """Read off a tokenizer where numbers stand and which ids they have.

    `limit` caps the numbers used (default: the tokenizer's own single-token limit). With the default format a prompt
    has exactly five tokens. Raises TokenizerError naming the text and its tokens where a number cannot be placed.
    """
    fmt = format or PromptFormat()
    most = single_token_limit(tokenizer, vocab_size=vocab_size)
    if limit is not None and limit > most:
        raise TokenizerError(f"results up to {limit} were asked for, but this tokenizer keeps only 0..{most} whole")
    top = most if limit is None else limit
    slots = _locate(tokenizer, fmt)
    sample = _ids(tokenizer, [fmt.text(1, "+", 2)])[0]
    numbers = [str(n) for n in range(top + 1)]
    op1_ids = _slot_table(tokenizer, [fmt.text(n, "+", 2) for n in numbers], sample, slots["op1"], numbers)
    op2_ids = _slot_table(tokenizer, [fmt.text(1, "+", n) for n in numbers], sample, slots["op2"], numbers)
    symbols = [o.symbol for o in operators]
    symbol_ids = _slot_table(tokenizer, [fmt.text(1, s, 2) for s in symbols], sample, slots["operator"], symbols)
    _check_neighbours(
        tokenizer, fmt, symbols, dict(zip(symbols, symbol_ids.tolist(), strict=True)), sample, slots, op1_ids, op2_ids
    )
    answer_texts = [fmt.text(1, "+", 2) + n for n in numbers]
    answers = _slot_table(tokenizer, answer_texts, [*sample, -1], len(sample), numbers)
    bos = bos_id(tokenizer)
    if tokenizer.unk_token_id in sample and tokenizer.unk_token_id != bos:
        raise TokenizerError(
            f"this tokenizer has no tokens for a part of {fmt.text(1, '+', 2)!r}: change the prefix or template"
        )
    if bos in sample:
        raise PromptError(f"{fmt.text(1, '+', 2)!r} already has the BOS token: leave it out, one is always put before")
    frame = np.asarray([bos, *sample], dtype=np.int64)
    return PromptEncoder(
        format=fmt,
        limit=top,
        bos=bos,
        frame=frame,
        slots={slot: i + 1 for slot, i in slots.items()},
        op1_ids=op1_ids,
        op2_ids=op2_ids,
        operator_ids=dict(zip(symbols, symbol_ids.tolist(), strict=True)),
        answer_ids=answers,
        tokens_seen=tuple(tokenizer.convert_ids_to_tokens(frame.tolist())),
    )


def _check_neighbours(
    tokenizer: Tokenizer,
    fmt: PromptFormat,
    symbols: Sequence[str],
    symbol_ids: dict[str, int],
    sample: list[int],
    slots: dict[str, int],
    op1_ids: Int[np.ndarray, "number"],
    op2_ids: Int[np.ndarray, "number"],
) -> None:
    """Every number beside every operator: no pair may merge into other tokens than the slot tables say."""
    n_numbers = len(op1_ids)
    for symbol in symbols:
        texts = [fmt.text(n, symbol, n_numbers - 1 - n) for n in range(n_numbers)]
        for n, (text, ids) in enumerate(zip(texts, _ids(tokenizer, texts), strict=True)):
            expected = list(sample)
            expected[slots["op1"]], expected[slots["operator"]] = int(op1_ids[n]), symbol_ids[symbol]
            expected[slots["op2"]] = int(op2_ids[n_numbers - 1 - n])
            if ids != expected:
                shown = tokenizer.convert_ids_to_tokens(list(ids))
                raise TokenizerError(f"prompt {text!r} becomes {shown}, not {len(sample)} tokens with one per number")
