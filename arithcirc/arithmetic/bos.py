"""The one token before every prompt, and who puts it there.

Tokenizers disagree: Llama 3's and Gemma's put a BOS before a text, Pythia's and GPT-J's nothing. What one adds is read
off by tokenizing the same text with and without special tokens. Exactly one token is put before a prompt and none
after it; what else a tokenizer would add is left out and named in `left_out`.
"""

from dataclasses import dataclass
from typing import Literal

from arithcirc.arithmetic.spans import Tokenizer, spelled
from arithcirc.errors import TokenizerError


@dataclass(frozen=True)
class Bos:
    """The token before every prompt. `left_out`: other special tokens that the tokenizer would add."""

    id: int
    token: str
    added_by: Literal["tokenizer", "us"]
    left_out: tuple[str, ...] = ()


def find_bos(tokenizer: Tokenizer, text: str, *, whose: str = "this tokenizer") -> Bos:
    """What stands before a prompt: the tokenizer's own first token, else its named BOS, else its EOS.

    A tokenizer that puts several tokens before a text keeps its named BOS of them, else the first. Raises
    TokenizerError when there is none to take, or when special tokens change the tokens of the text itself.
    """
    plain = _tokenized(tokenizer, text, special=False)
    full = _tokenized(tokenizer, text, special=True)
    at = next((i for i in range(len(full) - len(plain) + 1) if full[i : i + len(plain)] == plain), None)
    if at is None:
        shown = spelled(tokenizer, full)
        raise TokenizerError(f"{whose} changes {text!r} when it adds special tokens (it becomes {shown}): not usable")
    front = full[:at]
    named = [i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None]
    if not front and not named:
        raise TokenizerError(f"{whose} names neither a BOS nor an EOS token: set bos_token in its configuration")
    chosen = next((i for i in front if i == tokenizer.bos_token_id), front[0]) if front else int(named[0])
    others = [*full[:at], *full[at + len(plain) :]]
    if front:
        others.remove(chosen)
    return Bos(
        chosen, spelled(tokenizer, [chosen])[0], "tokenizer" if front else "us", tuple(spelled(tokenizer, others))
    )


def _tokenized(tokenizer: Tokenizer, text: str, *, special: bool) -> list[int]:
    ids: list[int] = tokenizer([text], add_special_tokens=special)["input_ids"][0]
    return list(ids)
