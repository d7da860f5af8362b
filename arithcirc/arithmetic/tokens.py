"""From numbers to token ids, and where each number stands.

The tokenizer is asked, never assumed. A prompt is `[BOS] prefix-tokens op1 operator op2 =` with exactly one BOS
(bos.py). A number is whole when it is one token in all of its places, as op1, op2 and answer, with the rest of the text
unchanged; the single-token limit is the largest n up to which all are. Alone a number may be written otherwise: at the
start of a text SentencePiece writes `▁12`, after an operator `12`. Answers are looked up behind the prompt:

    tokens(prompt + answer) = tokens(prompt) + [answer]

The space at a template's end goes with the answer where the tokenizer writes the two as one token (`Ġ158`), and stays
in the prompt as its last token where it never does (Llama 3 and OLMo 2 write `Ġ`, `158`). Rows are composed from tables
of ids, one per place, which is exact because every number is also read beside every operator.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from arithcirc.arithmetic.bos import Bos, find_bos
from arithcirc.arithmetic.format import PromptFormat
from arithcirc.arithmetic.operators import OPERATORS, Operator, Prompts
from arithcirc.arithmetic.places import (
    LARGEST_TRIED,
    Sample,
    check_neighbours,
    ids_in_place,
    read_sample,
    trouble_in_place,
    whole_numbers,
)
from arithcirc.arithmetic.seen import TEXT, SeenToken
from arithcirc.arithmetic.spans import Span, Tokenizer, Trouble, spelled
from arithcirc.components import Position
from arithcirc.errors import PromptError, TokenizerError

_EXAMPLES = ((226, 68), (12, 7), (5, 2), (1, 1), (0, 1))


@dataclass(frozen=True)
class PromptEncoder:
    """Token ids of prompts, answers and positions for one tokenizer and format; build it with `prompt_encoder`.

    `spans` are the tokens of op1, operator, op2 and equals, counted with the BOS, and of the answer behind them.
    """

    format: PromptFormat
    limit: int
    beginning: Bos
    frame: Int[np.ndarray, "position"]
    spans: dict[str, Span]
    op1_ids: Int[np.ndarray, "number"]
    op2_ids: Int[np.ndarray, "number"]
    operator_ids: dict[str, int]
    answer_ids: Int[np.ndarray, "number"]
    seen: tuple[SeenToken, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def bos(self) -> int:
        """Id of the token before every prompt."""
        return self.beginning.id

    @property
    def length(self) -> int:
        """Tokens per prompt, BOS included."""
        return len(self.frame)

    def index(self, position: Position) -> int:
        """Token index of a named position, the last of its span; `equals` is the last token of the prompt."""
        return 0 if position is Position.BOS else self.spans[position.value].stop - 1

    def encode(self, prompts: Prompts) -> Int[np.ndarray, "prompt position"]:
        """Token ids, shape (prompt, position). Raises PromptError for operands beyond the single-token limit."""
        high = max(int(prompts.op1.max(initial=0)), int(prompts.op2.max(initial=0)))
        if high > self.limit:
            raise PromptError(f"operand {high} is beyond {self.limit}, the largest number this tokenizer keeps whole")
        rows = np.repeat(self.frame[None, :], len(prompts), axis=0)
        rows[:, self.index(Position.OP1)] = self.op1_ids[prompts.op1]
        rows[:, self.index(Position.OP2)] = self.op2_ids[prompts.op2]
        rows[:, self.index(Position.OPERATOR)] = [self.operator_ids[s] for s in prompts.symbols]
        return rows

    def answers(self, values: Int[np.ndarray, "prompt"]) -> Int[np.ndarray, "prompt"]:
        """Token ids of answers. Raises PromptError for values outside 0..limit."""
        outside = np.flatnonzero((values < 0) | (values > self.limit))
        if len(outside):
            raise PromptError(f"answer {int(values[outside[0]])} is not a single token: allowed are 0..{self.limit}")
        ids: np.ndarray = self.answer_ids[values]
        return ids

    def numbers(self, tokens: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """Which number each answer token is; -1 where it is none."""
        number = np.full(max(int(self.answer_ids.max()), int(tokens.max(initial=0))) + 1, -1, dtype=np.int64)
        number[self.answer_ids] = np.arange(len(self.answer_ids))
        found: np.ndarray = number[tokens]
        return found


def single_token_limit(
    tokenizer: Tokenizer, *, format: PromptFormat | None = None, vocab_size: int | None = None
) -> int:
    """Largest n such that every number 0..n is one token as op1, as op2 and as answer.

    With `vocab_size`, the model's rows of W_E, a token beyond them does not count: a tokenizer may know more numbers
    than the model was given. Raises TokenizerError when a digit already has no token of its own.
    """
    whose = "this tokenizer"
    sample = read_sample(tokenizer, format or PromptFormat(), OPERATORS[0].symbol, whose=whose)
    ids, broken = whole_numbers(tokenizer, sample, highest=LARGEST_TRIED, vocab_size=vocab_size)
    if broken is not None and ids.shape[1] < 10:
        raise broken.error(whose)
    return int(ids.shape[1]) - 1


def prompt_encoder(
    tokenizer: Tokenizer,
    *,
    format: PromptFormat | None = None,
    operators: Sequence[Operator] = OPERATORS,
    limit: int | None = None,
    vocab_size: int | None = None,
    name: str | None = None,
) -> PromptEncoder:
    """Read off a tokenizer where numbers stand and which ids they have.

    `limit` caps the numbers used (default: the tokenizer's own single-token limit); `name` is the model's, for the
    messages. With the default format a prompt has five tokens as a rule. Raises TokenizerError, with the text and its
    tokens, where a number cannot be placed, and for a tokenizer that splits numbers into digits.
    """
    whose = f"{name}: its tokenizer" if name else "this tokenizer"
    symbols = [o.symbol for o in operators]
    sample = read_sample(tokenizer, format or PromptFormat(), symbols[0], whose=whose)
    highest = LARGEST_TRIED if limit is None else limit
    numbers, broken = whole_numbers(tokenizer, sample, highest=highest, vocab_size=vocab_size)
    if broken is not None:
        _check_limit(numbers.shape[1] - 1, limit, broken, whose)
    ids = ids_in_place(tokenizer, sample, "operator", symbols, vocab_size=vocab_size)
    if (ids < 0).any():
        symbol = symbols[int(np.argmax(ids < 0))]
        raise trouble_in_place(tokenizer, sample, "operator", symbol, vocab_size=vocab_size).error(whose)
    operator_ids = dict(zip(symbols, ids.tolist(), strict=True))
    check_neighbours(tokenizer, sample, numbers, operator_ids, whose=whose)
    bos = _beginning(tokenizer, sample, whose)
    encoder = PromptEncoder(
        format=sample.format,
        limit=int(numbers.shape[1]) - 1,
        beginning=bos,
        frame=np.asarray([bos.id, *sample.ids], dtype=np.int64),
        spans={place: span.shifted(1) for place, span in sample.spans.items()},
        op1_ids=numbers[0],
        op2_ids=numbers[1],
        operator_ids=operator_ids,
        answer_ids=numbers[2],
    )
    return replace(encoder, seen=_seen(tokenizer, encoder, operators), notes=_notes(bos, sample))


def _check_limit(top: int, limit: int | None, broken: Trouble, whose: str) -> None:
    """Refuse when numbers end too early: a digit is broken, two digits are split, or more was asked for."""
    asked = limit is None or limit > 9
    if top < 9 or (top == 9 and asked and broken.kind not in ("unknown", "no row")):
        raise broken.error(whose)
    if limit is not None and limit > top:
        raise TokenizerError(
            f"results up to {limit} were asked for, but {whose} keeps only 0..{top} whole (it {broken.says}): "
            f"use numbers up to {top}"
        )


def _beginning(tokenizer: Tokenizer, sample: Sample, whose: str) -> Bos:
    """The BOS, and that neither it nor the unknown token stands in the prompt itself."""
    prompt = sample.text()
    bos = find_bos(tokenizer, prompt, whose=whose)
    if tokenizer.unk_token_id in sample.ids and tokenizer.unk_token_id != bos.id:
        raise TokenizerError(f"{whose} has no tokens for a part of {prompt!r}: change the prefix or template")
    if bos.id in sample.ids:
        raise PromptError(f"{prompt!r} already has the BOS token: leave it out, one is always put before")
    return bos


def _seen(tokenizer: Tokenizer, encoder: PromptEncoder, operators: Sequence[Operator]) -> tuple[SeenToken, ...]:
    """Every position of an example prompt, and its answer."""
    one = np.ones(1, dtype=np.int64)
    tried = (
        Prompts(np.array([o.symbol]), a * one, b * one, o.result(a * one, b * one))
        for a, b in _EXAMPLES
        for o in operators
    )
    fits = (p for p in tried if max(p.op1[0], p.op2[0], p.answer[0]) <= encoder.limit and p.answer[0] >= 0)
    example = next(fits, Prompts(np.array([operators[0].symbol]), 0 * one, 0 * one, 0 * one))
    ids = [*encoder.encode(example)[0].tolist(), *encoder.answers(example.answer).tolist()]
    named = {span.stop - 1: place for place, span in encoder.spans.items()} | {0: Position.BOS.value}
    numbers = {"op1": encoder.op1_ids, "op2": encoder.op2_ids, "answer": encoder.answer_ids}
    ends = {place: spelled(tokenizer, table[[0, -1]].tolist()) for place, table in numbers.items()}
    among = {place: (first, "...", last) for place, (first, last) in ends.items()}
    signs = tuple(spelled(tokenizer, list(encoder.operator_ids.values())))
    seen = []
    for i, token in enumerate(spelled(tokenizer, ids)):
        place = named.get(i, TEXT)
        seen.append(SeenToken(place, token, signs if place == "operator" else among.get(place, ())))
    return tuple(seen)


def _notes(bos: Bos, sample: Sample) -> tuple[str, ...]:
    """What a reader of the tokens should know beside them."""
    notes = []
    if bos.left_out:
        notes.append(f"special tokens the tokenizer would add are left out: {' '.join(bos.left_out)}")
    if sample.tail:
        notes.append("the template's last space is a token of its own: the answer is read there")
    return tuple(notes)
