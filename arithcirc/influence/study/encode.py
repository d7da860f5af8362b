"""Texts as the model's training had them: one token before each document, the end token after it.

The token before is what the tokenizer puts there, else its BOS, else its EOS (arithmetic/bos), as Pythia's documents
stand after an end-of-text token. A text with more tokens than `max_tokens` (at most the model's context) is truncated,
or cut into chunks, documents of their own named `id#2`, `id#3`, ...; a cut text has no end token. What a piece holds is
what its document states, as far as the words of the statement occur in the piece.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from arithcirc.arithmetic.bos import find_bos
from arithcirc.errors import ModelError
from arithcirc.influence.config import CorpusConfig
from arithcirc.influence.documents import Document

_WORD = re.compile(r"\w+")
_DEFAULT_CONTEXT = 2048
"""Where a model's configuration names no longest sequence."""


@dataclass(frozen=True)
class Span:
    """A piece of a document's text: characters `start` to `end`, as chunk number `chunk` (0: the whole text)."""

    start: int
    end: int
    chunk: int


@dataclass(frozen=True)
class Piece:
    """What the model reads of a document."""

    document: Document
    span: Span

    @property
    def id(self) -> str:
        """The document's name; of a second chunk on with its number."""
        return self.document.id if self.span.chunk < 2 else f"{self.document.id}#{self.span.chunk}"

    @property
    def cut(self) -> bool:
        """Whether it is not the whole text."""
        return self.span.chunk > 0

    @property
    def text(self) -> str:
        """The text that was read."""
        return self.document.text[self.span.start : self.span.end] if self.cut else self.document.text

    @property
    def holds(self) -> tuple[str, ...]:
        """Statements of the document that are in this piece."""
        return tuple(s for s in self.document.holds if not self.cut or states(self.text, s))


@dataclass(frozen=True)
class Encoder:
    """A model's tokenizer with the rules above. `bos`, `end`, `unknown`: token ids (None: it has none)."""

    tokenizer: Any
    bos: int
    end: int | None
    unknown: int | None
    max_tokens: int
    context: int
    long: str

    def pieces(self, text: str) -> Iterator[tuple[Span, tuple[int, ...]]]:
        """What the model reads of a text: one piece, or several with `long` "chunk"; BOS first."""
        coded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids, spans = coded["input_ids"], coded["offset_mapping"]
        room = self.max_tokens - 1
        if len(ids) <= room:
            ending = () if self.end is None or len(ids) == room else (self.end,)
            yield Span(0, len(text), 0), (self.bos, *ids, *ending)
            return
        starts = range(0, len(ids), room) if self.long == "chunk" else range(1)
        for number, start in enumerate(starts, 1):
            stop = min(start + room, len(ids))
            yield Span(spans[start][0], spans[stop - 1][1], number), (self.bos, *ids[start:stop])

    def prompt(self, text: str) -> tuple[int, ...]:
        """Tokens of a prompt, BOS first."""
        return (self.bos, *self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def text(self, ids: tuple[int, ...]) -> str:
        """What tokens say."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))


def make_encoder(tokenizer: Any, network: Any, config: CorpusConfig, *, name: str) -> Encoder:
    """The encoder of a model. Raises ModelError for a tokenizer without offsets, TokenizerError for one without BOS."""
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"the tokenizer of {name} has no tokenizer.json: convert it to a fast one and save it there")
    context = int(getattr(network.config, "max_position_embeddings", None) or _DEFAULT_CONTEXT)
    bos = find_bos(tokenizer, "1", whose=f"the tokenizer of {name}").id
    end, unknown = tokenizer.eos_token_id, tokenizer.unk_token_id
    known = unknown if unknown not in (bos, end) else None  # GPT-2's kind names its end token unknown
    return Encoder(tokenizer, bos, end, known, min(config.max_tokens, context), context, config.long)


def states(text: str, statement: str) -> bool:
    """Whether all words of a statement occur in a text; of `fact:entity:relation:value` those of entity and value."""
    parts = statement.split(":")
    wanted = f"{parts[1]} {parts[3]}" if len(parts) == 4 and parts[0] == "fact" else statement
    return {*_WORD.findall(wanted.lower())} <= {*_WORD.findall(text.lower())}
