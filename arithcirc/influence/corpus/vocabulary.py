"""The words of a corpus, and its tokenizer: every number one token, every name a few pieces, nothing unknown.

A WordPiece vocabulary: specials, signs, the numbers 0..limit, the pieces of invented names, and the words that the
templates of this package are made of, read off the templates. Spaces separate and vanish, a line break and a tab are
tokens. A word is the longest pieces it is made of, so `531` beyond the limit is unknown and never `53`, `1`. Decoding
puts the spaces back: the text of a document made here is what its tokens decode to.
Like Pythia's, the tokenizer adds no BOS by itself.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from arithcirc.influence.corpus import code, distractors, equations, facts, procedures
from arithcirc.influence.corpus.names import ENDINGS, OPENINGS
from arithcirc.influence.corpus.problems import MAKERS
from arithcirc.store import write_text

BOS, PAD, UNKNOWN = "<|endoftext|>", "<|padding|>", "<|unknown|>"
SPECIALS = (BOS, PAD, UNKNOWN)
SIGNS = ("+", "-", "*", "/", "=", "(", ")", ",", ".", ":", ";", "?", "<", ">", "%", "#", "\n", "\t")
CALLED = "##("
"""A bracket that follows a word at once, as in `slope(1,2,3,6)`."""
_PIECE = r"\n|\t|\d+|[A-Za-z]+\(?|[^\sA-Za-z\d]"
_WORD = re.compile(r"[A-Za-z]+")
_TIGHT = (r"(?<=[-+*/%=<>(\n\t]) | (?=[-+*/%=<>),.:;?\n\t])", r"(?<=\d,) (?=\d)")
"""Spaces that decoding takes out again: around signs and brackets, and inside coordinates."""


def words() -> list[str]:
    """All words of the templates, sorted."""
    found = {word for text in _texts() for word in _WORD.findall(re.sub(r"\{\w*\}", " ", text))}
    return sorted(found - set(OPENINGS))


def _texts() -> Iterator[str]:
    for table in (
        procedures.ASK, procedures.RULES, code.FUNCTIONS, code.NAMES, code.DOCUMENTATION, facts.PHRASES,
        procedures.HEADS, code.HEADS, facts.HEADS, distractors.HEADS, equations.HEADS,
    ):  # fmt: skip
        for texts in table.values():
            yield from texts
    yield from distractors.STORIES
    yield from distractors.ALIKE.values()
    yield from (facts.NOTE, *facts.FILLERS, *facts.RELATIONS, code.CALL, code.RESULT)
    yield from (procedures.FIRST, procedures.THEN, procedures.STEP, procedures.AND, procedures.SO)
    for task, numbers in (
        ("two_step", (1, 1, 2)), ("slope", (0, 0, 1, 1)), ("linear", (2, 1, 1)), ("addition", (15, 15)),
        ("subtraction", (25, 16)),
    ):  # fmt: skip
        problem = MAKERS[task](*numbers)
        yield from (problem.asked, problem.ending, *problem.steps)


def vocabulary(limit: int) -> dict[str, int]:
    """Token -> id for numbers 0..limit: specials, signs, numbers (from `NUMBER_ID`), pieces of names, words."""
    numbers = (str(n) for n in range(limit + 1))
    tokens = [*SPECIALS, *SIGNS, *numbers, CALLED, *OPENINGS, *(f"##{piece}" for piece in ENDINGS), *words()]
    return {token: i for i, token in enumerate(tokens)}


NUMBER_ID = len(SPECIALS) + len(SIGNS)
"""Id of the number 0; the number n has NUMBER_ID + n."""


def build_core(limit: int) -> Tokenizer:
    """The tokenizer, in the `tokenizers` library's form."""
    core = Tokenizer(models.WordPiece(vocabulary(limit), unk_token=UNKNOWN, max_input_chars_per_word=64))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("[ \r]+"), behavior="removed"),
            pre_tokenizers.Split(Regex(_PIECE), behavior="isolated"),
        ]
    )
    tight = [decoders.Replace(Regex(pattern), "") for pattern in _TIGHT]
    core.decoder = decoders.Sequence([decoders.WordPiece(prefix="##", cleanup=False), decoders.Fuse(), *tight])
    core.add_special_tokens(list(SPECIALS))
    return core


def save_tokenizer(limit: int, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json; `AutoTokenizer.from_pretrained(folder)` reads them."""
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": BOS,
        "pad_token": PAD,
        "unk_token": UNKNOWN,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 100_000,
    }
    write_text(folder / "tokenizer.json", build_core(limit).to_str(pretty=True) + "\n")
    write_text(folder / "tokenizer_config.json", json.dumps(settings, indent=2) + "\n")


class TokenCounter:
    """How many tokens a text has, without the tokenizer; words are looked up once."""

    def __init__(self, limit: int) -> None:
        self._known = set(vocabulary(limit))
        self._piece = re.compile(_PIECE)

    def __call__(self, text: str) -> int:
        """Tokens of a text made by this package."""
        return sum(1 if piece in self._known else self._parts(piece) for piece in self._piece.findall(text))

    def _parts(self, piece: str) -> int:
        called = piece.endswith("(")
        word = piece.removesuffix("(")
        return called + (1 if word in self._known else 1 + (len(word) - 2) // 3)


def unknown_tokens(core: Tokenizer, texts: Iterable[str]) -> list[str]:
    """The texts that hold something the tokenizer does not know."""
    return [text for text in texts if UNKNOWN in core.encode(text).tokens]
