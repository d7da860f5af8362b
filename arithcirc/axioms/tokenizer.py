"""The paper's tokenizer: a word of the texts is one token, a name one token a character, spaces are none.

Ids: [PAD] 0, `.` 1, `?` 2, causes 3, Does 4, cause 5, Yes 6, No 7, then the 62 characters A-Z, a-z, 0-9: 70 in all.
`vocab=69` leaves `y` out, as the authors' vocabulary seems to. Questions of d-separation need seven more tokens, those
from correlation to causation 23 more again: a task's vocabulary begins with that of the task before it (`TASKS`), so an
id means the same in all. Words match in any case: `NO` is the answer No, which is why no node may be called so. Words
of correlation alone match as they are written (`is`, `Is`), since its variables are single letters; in its vocabulary
names of nodes such as `of` would be words, so each task's texts have a tokenizer of their own.
There is no token for what is unknown: a text with another character is refused.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from arithcirc.axioms.corr2cause.text import WORDS as CORRELATION_TEXT
from arithcirc.axioms.graphs import Graph
from arithcirc.axioms.names import ALPHANUMERIC
from arithcirc.errors import TokenizerError
from arithcirc.store import write_text

PAD = "[PAD]"
SIGNS = (".", "?")
WORDS = ("causes", "Does", "cause", "Yes", "No")
SEPARATION_SIGNS, SEPARATION_WORDS = ("{", "}", ",", ")"), ("d-separated", "are", "and")
"""What questions of d-separation have besides."""
CORRELATION_WORDS = tuple(word for word in CORRELATION_TEXT if word not in SEPARATION_WORDS)
"""What questions from correlation to causation have besides."""
TASKS = ("transitivity", "d-separation", "correlation")
"""What is asked; each needs the tokens of those before it and its own."""
SIZES = (70, 69)
LONGEST = 7000
"""Positions of the paper's model."""


def characters(vocab: int = 70) -> str:
    """What names may be made of: 62 letters and digits, without `y` in the vocabulary of 69. Raises TokenizerError."""
    if vocab not in SIZES:
        raise TokenizerError(f"there is no vocabulary of {vocab} tokens: use {' or '.join(map(str, SIZES))}")
    return ALPHANUMERIC if vocab == SIZES[0] else ALPHANUMERIC.replace("y", "")


def vocabulary(*, vocab: int = 70, task: str = TASKS[0]) -> dict[str, int]:
    """Token -> id: 70 tokens, 69 without `y`; 7 more for d-separation, 30 for correlation. Raises TokenizerError."""
    signs, words, cased = _besides(task)
    return {token: i for i, token in enumerate((PAD, *SIGNS, *WORDS, *characters(vocab), *signs, *words, *cased))}


def _besides(task: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Signs, words in any case and words as they are written that a task has beside those of transitivity."""
    if task not in TASKS:
        raise TokenizerError(f"there is no vocabulary of the task {task!r}: use {', '.join(TASKS)}")
    if task == TASKS[0]:
        return (), (), ()
    return SEPARATION_SIGNS, SEPARATION_WORDS, CORRELATION_WORDS if task == TASKS[2] else ()


def build_core(*, vocab: int = 70, task: str = TASKS[0]) -> Tokenizer:
    """The tokenizer, in the `tokenizers` library's form. Raises TokenizerError."""
    more_signs, more_words, cased = _besides(task)
    words, signs = WORDS + more_words, "".join(SIGNS + more_signs)
    core = Tokenizer(models.WordLevel(vocabulary(vocab=vocab, task=task)))
    core.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(rf"(?i)(?<![A-Za-z0-9-]){word}(?![A-Za-z0-9-])"), word) for word in words]
    )
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(f"[{signs}]"), behavior="isolated"),
            pre_tokenizers.Split(Regex(rf"\A({'|'.join(words + cased)})\z|."), behavior="isolated"),
        ]
    )
    core.decoder = decoders.Sequence(
        [
            *(decoders.Replace(Regex(rf"\A{_escaped(token)}\z"), text) for token, text in _spaced(task).items()),
            decoders.Fuse(),
            *([decoders.Replace("d-separatedgiven", "d-separated given")] if not cased else []),
            *([decoders.Replace(Regex(" +"), " "), decoders.Replace(Regex(r" (?=[.,?])"), "")] if cased else []),
            decoders.Strip(" ", 0, 1),
        ]
    )
    core.add_special_tokens([PAD])
    return core


def _spaced(task: str) -> dict[str, str]:
    """Tokens that are written with spaces around them, in the order in which they are looked for."""
    found = {"causes": " causes ", "cause": " cause ", "Does": "Does ", ".": ". ", "?": "? "}
    if task != TASKS[0]:
        found |= {",": ", ", "{": " {", "and": " and ", "d-separated": " d-separated", "are": "are "}
    if task == TASKS[2]:
        found |= {word: f" {word} " for word in ("are", *CORRELATION_WORDS)}
    return found


def _escaped(token: str) -> str:
    return f"[{token}]" if len(token) == 1 else token


def save_tokenizer(folder: Path, *, vocab: int = 70, task: str = TASKS[0]) -> None:
    """Write tokenizer.json and tokenizer_config.json; `AutoTokenizer.from_pretrained(folder)` reads them."""
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
        "model_max_length": LONGEST,
    }
    core = build_core(vocab=vocab, task=task)
    write_text(folder / "tokenizer.json", core.to_str(pretty=True) + "\n")
    write_text(folder / "tokenizer_config.json", json.dumps(settings, indent=2) + "\n")


def encode(core: Tokenizer, text: str) -> list[int]:
    """A text's ids. Raises TokenizerError for a character that the vocabulary does not have."""
    known, left = core.get_vocab(), text
    for word in (token for token in known if len(token) > 1):
        left = left.replace(word, " ")
    try:
        ids: list[int] = core.encode(text).ids
    except Exception as error:  # the library raises nothing narrower
        odd = sorted({c for c in left if not c.isspace() and c not in known})
        what = f"has {odd[0]!r}" if odd else f"cannot be read ({error})"
        raise TokenizerError(
            f"the text {what}, which is no token of a vocabulary of {len(known)}: use words of the questions, "
            "letters A-Z, a-z and digits that it has"
        ) from None
    return ids


def premise_ids(graph: Graph, known: Mapping[str, int]) -> list[int]:
    """Ids of a graph's sentences, as `encode` gives them for `text.premise`, without a text. Raises TokenizerError."""
    causes, stop = known["causes"], known["."]
    return [i for cause, effect in graph.edges for i in (*_name(cause, known), causes, *_name(effect, known), stop)]


def question_ids(pair: Sequence[str], known: Mapping[str, int]) -> list[int]:
    """Ids of `Does A cause B?` for the pair (A, B). Raises TokenizerError."""
    cause, effect = pair
    return [known["Does"], *_name(cause, known), known["cause"], *_name(effect, known), known["?"]]


def answer_id(label: bool, known: Mapping[str, int]) -> int:
    """Id of Yes or No."""
    return known["Yes" if label else "No"]


def _name(name: str, known: Mapping[str, int]) -> list[int]:
    try:
        return [known[character] for character in name]
    except KeyError as error:
        raise TokenizerError(
            f"name {name!r} has {error.args[0]!r}, which is no token of a vocabulary of {len(known)}: draw names "
            "from its characters"
        ) from None
