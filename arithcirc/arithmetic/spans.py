"""Where a piece of a text stands among its tokens, and why it may have no token of its own.

Tokens are found by the characters they cover, with a space of their own allowed: ` 12` is `Ġ12` in byte-level BPE and
`▁12` in SentencePiece. A bare space token (`Ġ`, `▁`) belongs to no piece: SentencePiece may put one before the first
word, and Llama 3 writes ` 12` as `Ġ`, `12`. A span may hold several tokens; that a number needs exactly one is decided
in `trouble` alone, and `Trouble.error` words every refusal.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from arithcirc.errors import TokenizerError

SPACES = "Ġ▁ "
"""How tokenizers spell a space inside a token."""
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_SHOWN = 60
_USE = "use a model that writes numbers as one token (Pythia, GPT-J, Llama 3, OLMo 2)"
_APART = "write the template with spaces, as '{op1} {operator} {op2} =', and end a prefix with a space or a new line"
_ADVICE = {
    "digits": f"an operand has no position of its own and an answer no token, so {_USE}",
    "split": f"an operand has no position of its own and an answer no token, so {_USE}",
    "bytes": f"an operand has no position of its own and an answer no token, so {_USE}",
    "joined": _APART,
    "context": _APART,
    "space": "write the template without that space, or put text before the first number with --prefix",
    "unknown": "use other numbers, operators or template, or another model",
    "no row": "the model was not given this token: use smaller numbers",
}


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
class Span:
    """Token indices `start` up to, not with, `stop`."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def shifted(self, by: int) -> "Span":
        """The same tokens when `by` more stand before them."""
        return Span(self.start + by, self.stop + by)


@dataclass(frozen=True)
class TokenizedText:
    """A text, its tokens, and the characters each covers; `unknown` is the id of the unknown token."""

    text: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...]
    unknown: int | None

    def span(self, start: int, stop: int) -> Span:
        """Tokens covering any of the characters [start, stop), bare spaces left out; empty when there are none."""
        inside = [i for i, (a, b) in enumerate(self.offsets) if a < stop and b > start and self.tokens[i].strip(SPACES)]
        return Span(inside[0], inside[-1] + 1) if inside else Span(0, 0)

    def covered(self, span: Span) -> str:
        """The characters of a span, without the spaces around them."""
        return self.text[self.offsets[span.start][0] : self.offsets[span.stop - 1][1]].strip()

    def __str__(self) -> str:
        cut = len(self.text) > _SHOWN
        tokens = self.tokens[-_SHOWN // 4 :]
        return f"{'... ' if cut else ''}{self.text[-_SHOWN:]!r}, tokens {list(tokens)}"


def token_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, without special tokens."""
    if not texts:
        return []
    encoded: list[list[int]] = tokenizer(
        list(texts), add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False
    )["input_ids"]
    return encoded


def spelled(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[str]:
    """The tokens' own spelling."""
    return [str(token) for token in tokenizer.convert_ids_to_tokens([int(i) for i in tokens])]


def tokenize(tokenizer: Tokenizer, text: str) -> TokenizedText:
    """One text with its tokens and the characters they cover."""
    encoded = tokenizer([text], add_special_tokens=False, return_offsets_mapping=True)
    ids = tuple(int(i) for i in encoded["input_ids"][0])
    offsets = tuple((int(a), int(b)) for a, b in encoded["offset_mapping"][0])
    return TokenizedText(text, ids, tuple(spelled(tokenizer, ids)), offsets, tokenizer.unk_token_id)


@dataclass(frozen=True)
class Trouble:
    """Why a piece of a text has no token of its own; `says` is a verb phrase about the tokenizer."""

    kind: Literal["digits", "split", "joined", "space", "bytes", "unknown", "no row", "context"]
    says: str
    seen: TokenizedText

    def error(self, whose: str) -> TokenizerError:
        """The refusal: whose tokenizer it is, what it does, where it was seen, and what to do."""
        return TokenizerError(f"{whose} {self.says}, as in {self.seen}: {_ADVICE[self.kind]}")


def trouble(written: TokenizedText, start: int, stop: int) -> Trouble | None:
    """Why the characters [start, stop) are not one token of their own; None when they are."""
    piece, span = written.text[start:stop], written.span(start, stop)
    tokens = list(written.tokens[span.start : span.stop])
    if not tokens:
        return Trouble("unknown", f"has no token for {piece!r}", written)
    if (covered := written.covered(span)) != piece:
        return Trouble("joined", f"joins {piece!r} with its neighbour ({covered!r} becomes {tokens})", written)
    if written.unknown in written.ids[span.start : span.stop]:
        return Trouble("unknown", f"has no token for {piece!r}", written)
    if len(span) == 1:
        return None
    if any(_BYTE.fullmatch(token) for token in tokens):
        return Trouble("bytes", f"spells {piece!r} in bytes {tokens}", written)
    if piece.isdecimal() and [token.strip(SPACES) for token in tokens] == list(piece):
        return Trouble("digits", f"splits numbers into digits ({piece!r} becomes {tokens})", written)
    return Trouble("split", f"splits {piece!r} into {tokens}", written)


def trouble_around(written: TokenizedText, start: int, stop: int, *, expected: Span | None) -> Trouble:
    """Why a piece with a token of its own cannot be exchanged: it changes the tokens around it, or where it stands."""
    piece, span = written.text[start:stop], written.span(start, stop)
    if span != expected and span.start and not written.tokens[span.start - 1].strip(SPACES):
        bare = written.tokens[span.start - 1]
        return Trouble("space", f"puts a bare {bare!r} before {piece!r} and not before every number", written)
    return Trouble("context", f"writes the text beside {piece!r} in other tokens than beside other numbers", written)
