"""What a run says about its tokens: which one stands at every position, in an example and in general."""

from collections.abc import Sequence
from dataclasses import dataclass

from arithcirc.arithmetic.bos import Bos
from arithcirc.arithmetic.spans import SPACES

TEXT = "text"
"""The position of tokens that never change: the prefix, the template's words, bare spaces."""
_FEW = 3


@dataclass(frozen=True)
class SeenToken:
    """A position of the prompt, or the answer: the example's token and the tokens that can stand there."""

    position: str
    token: str
    among: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.token}, one of {' '.join(self.among)}" if self.among else self.token


def seen_table(seen: Sequence[SeenToken]) -> dict[str, str]:
    """For the manifest: `{"0 bos": "<|endoftext|>", "1 op1": "226, one of 0 ... 530", ..., "5 answer": ...}`."""
    return {f"{i} {token.position}": str(token) for i, token in enumerate(seen)}


def seen_line(seen: Sequence[SeenToken], bos: Bos, notes: Sequence[str] = ()) -> str:
    """For the terminal: `<|endoftext|> (BOS, added by us) | 226 op1 | - operator | 68 op2 | = equals | answer 158`.

    More than three unchanging tokens in a row are counted instead; the notes follow.
    """
    words = [f"{bos.token} (BOS, added by {'us' if bos.added_by == 'us' else 'the tokenizer'})"]
    fixed: list[str] = []
    for token in seen[1:]:
        if token.position == TEXT:
            fixed.append(token.token)
            continue
        words += fixed if len(fixed) <= _FEW else [f"({len(fixed)} tokens of text)"]
        fixed = []
        words.append(f"answer {token.token}" if token.position == "answer" else f"{token.token} {token.position}")
    marks = dict.fromkeys(t.token[0] for t in seen if t.token and t.token[0] in SPACES.strip())
    spaces = [f"{mark} is a space" for mark in marks]
    return " | ".join(words) + "".join(f"; {note}" for note in (*spaces, *notes))
