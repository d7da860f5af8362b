"""Numbers in their places: which ids they have as op1, as op2 and as answer, and up to which number they are whole.

One sample prompt is taken, its numbers are exchanged one at a time, and the tokens are compared with the sample's: a
number is whole where exactly one token changes. Then every number is read beside every operator, and every answer
behind every operator, since a pair may merge that was never side by side before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from arithcirc.arithmetic.format import SLOTS, PromptFormat
from arithcirc.arithmetic.spans import Span, Tokenizer, Trouble, token_ids, tokenize, trouble, trouble_around

LARGEST_TRIED = 99_999
PLACES = ("op1", "op2", "answer")
_AT_ONCE = 1_000


@dataclass(frozen=True)
class Sample:
    """A prompt whose op1, operator, op2 and answer are exchanged; `ids` and `spans` are without BOS.

    `tail` is the template's last space where it is a token of its own, and so a part of the prompt.
    """

    format: PromptFormat
    symbol: str
    tail: str
    ids: tuple[int, ...]
    spans: dict[str, Span]

    def text(self, **values: int | str) -> str:
        """The prompt with these values of op1, operator and op2, and with its answer where one is given."""
        prompt = self.format.text(*self._operands(values))
        return prompt + (f"{self.format.gap}{values['answer']}" if "answer" in values else self.tail)

    def characters(self, place: str, **values: int | str) -> tuple[int, int]:
        """Where a place's value stands in `text(**values)`."""
        if place == "answer":
            stop = len(self.text(**values))
            return stop - len(str(values["answer"])), stop
        return self.format.spans(*self._operands(values))[place]

    def _operands(self, values: dict[str, int | str]) -> tuple[int | str, str, int | str]:
        return values.get("op1", 1), str(values.get("operator", self.symbol)), values.get("op2", 2)


def read_sample(tokenizer: Tokenizer, fmt: PromptFormat, symbol: str, *, whose: str) -> Sample:
    """Where op1, operator, op2, `=` and the answer stand. TokenizerError where one is not a single token."""
    first = Sample(fmt, symbol, "", (), {})
    written = tokenize(tokenizer, first.text())
    for slot in SLOTS:
        if found := trouble(written, *first.characters(slot)):
            raise found.error(whose)
    answered = token_ids(tokenizer, [first.text(answer=1)])[0]
    for tail in dict.fromkeys(("", fmt.gap)):
        prompt = token_ids(tokenizer, [first.text() + tail])[0]
        if answered[:-1] == prompt:
            spans = {slot: written.span(*first.characters(slot)) for slot in SLOTS}
            end = len(prompt)
            spans |= {"equals": Span(end - 1, end), "answer": Span(end, end + 1)}
            return Sample(fmt, symbol, tail, tuple(prompt), spans)
    raise _trouble(tokenizer, first, "answer", None, answer=1).error(whose)


def ids_in_place(
    tokenizer: Tokenizer, sample: Sample, place: str, values: Sequence[int | str], *, vocab_size: int | None
) -> Int[np.ndarray, "value"]:
    """Id of each value in a place of the sample; -1 where it is not exactly one token that the model knows."""
    expected = [*sample.ids, -1] if place == "answer" else list(sample.ids)
    slot = sample.spans[place].start
    rows = _rectangle(token_ids(tokenizer, [sample.text(**{place: value}) for value in values]), len(expected))
    ids = rows[:, slot]
    same = rows == np.asarray(expected)
    same[:, slot] = (ids >= 0) & (ids != tokenizer.unk_token_id) & (ids < (vocab_size or np.inf))
    found: np.ndarray = np.where(same.all(1), ids, -1)
    return found


def trouble_in_place(
    tokenizer: Tokenizer, sample: Sample, place: str, value: int | str, *, vocab_size: int | None
) -> Trouble:
    """Why `ids_in_place` has no id for this value."""
    return _trouble(tokenizer, sample, place, vocab_size, **{place: value})


def whole_numbers(
    tokenizer: Tokenizer, sample: Sample, *, highest: int, vocab_size: int | None
) -> tuple[Int[np.ndarray, "place number"], Trouble | None]:
    """Ids of 0, 1, ... in each of PLACES, up to the first number that is not whole in all of them, and why it is not.

    Stops at `highest`, with None.
    """
    found: list[np.ndarray] = []
    for start in range(0, highest + 1, _AT_ONCE):
        numbers, broken, columns = range(start, min(start + _AT_ONCE, highest + 1)), None, []
        for place in PLACES:
            ids = ids_in_place(tokenizer, sample, place, numbers, vocab_size=vocab_size)
            if (ids < 0).any():
                at = int(np.argmax(ids < 0))
                broken, numbers = (place, numbers[at]), numbers[:at]
            columns.append(ids)
        found.append(np.stack([ids[: len(numbers)] for ids in columns]))
        if broken is not None:
            return np.concatenate(found, axis=1), trouble_in_place(tokenizer, sample, *broken, vocab_size=vocab_size)
    return np.concatenate(found, axis=1), None


def check_neighbours(
    tokenizer: Tokenizer,
    sample: Sample,
    numbers: Int[np.ndarray, "place number"],
    operator_ids: dict[str, int],
    *,
    whose: str,
) -> None:
    """Read every number beside every operator, with and without an answer. TokenizerError where tokens merge."""
    n = np.arange(numbers.shape[1])
    op1, op2, answer = n, n[::-1], (n + len(n) // 2) % len(n)
    for symbol, symbol_id in operator_ids.items():
        expected = np.tile(np.asarray([*sample.ids, -1]), (len(n), 1))
        for place, ids in zip(PLACES, (numbers[0, op1], numbers[1, op2], numbers[2, answer]), strict=True):
            expected[:, sample.spans[place].start] = ids
        expected[:, sample.spans["operator"].start] = symbol_id
        prompts: list[dict[str, int | str]] = [
            {"op1": int(a), "operator": symbol, "op2": int(b)} for a, b in zip(op1, op2, strict=True)
        ]
        values = [prompt | {"answer": int(c)} for prompt, c in zip(prompts, answer, strict=True)]
        for rows, wanted in ((prompts, expected[:, :-1]), (values, expected)):
            read = _rectangle(token_ids(tokenizer, [sample.text(**row) for row in rows]), wanted.shape[1])
            wrong = np.flatnonzero((read != wanted).any(1))
            if len(wrong):
                raise _trouble_anywhere(tokenizer, sample, rows[int(wrong[0])]).error(whose)


def _rectangle(rows: list[list[int]], length: int) -> Int[np.ndarray, "text token"]:
    """Rows of ids as an array; those of another length are all -1."""
    filled = [row if len(row) == length else [-1] * length for row in rows]
    return np.asarray(filled, dtype=np.int64).reshape(-1, length)


def _trouble(tokenizer: Tokenizer, sample: Sample, place: str, vocab_size: int | None, **values: int | str) -> Trouble:
    written = tokenize(tokenizer, sample.text(**values))
    where = sample.characters(place, **values)
    if found := trouble(written, *where):
        return found
    token = written.ids[written.span(*where).start]
    if vocab_size and token >= vocab_size:
        known = f"writes {values[place]} as token {token}, and the model knows tokens 0..{vocab_size - 1}"
        return Trouble("no row", known, written)
    return trouble_around(written, *where, expected=sample.spans.get(place))


def _trouble_anywhere(tokenizer: Tokenizer, sample: Sample, values: dict[str, int | str]) -> Trouble:
    """The first piece of a text that has no token of its own, else that the pieces change each other's tokens."""
    written = tokenize(tokenizer, sample.text(**values))
    found = (trouble(written, *sample.characters(place, **values)) for place in values)
    return next(filter(None, found), None) or Trouble("context", "writes numbers in other tokens side by side", written)
