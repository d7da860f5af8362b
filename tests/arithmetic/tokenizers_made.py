"""Tokenizers of several kinds, built in memory."""

import warnings

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

BOS, UNKNOWN = "<|endoftext|>", "<unk>"
START, END = "<s>", "</s>"
SIGNS = "=+-*/"
TIKTOKEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|NUMBERS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Llama 3, OLMo 2 and Qwen cut a text into words; they differ in NUMBERS."""


def wrapped(core: Tokenizer, **names: str) -> PreTrainedTokenizerFast:
    """A Hugging Face tokenizer over a core; without names it has neither BOS nor EOS."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PreTrainedTokenizerFast(tokenizer_object=core, **names)


def words(limit: int, *, splitting: str = r"\d+|\D", **names: str) -> PreTrainedTokenizerFast:
    """One token per number 0..limit; `splitting` says what a word is."""
    listed = [UNKNOWN, BOS, *"+-*/=: Q", *(str(n) for n in range(limit + 1))]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(listed)}, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(splitting), behavior="isolated")
    return wrapped(core, unk_token=UNKNOWN, **names)


def digits() -> PreTrainedTokenizerFast:
    """Every digit is a token, as in Llama 2."""
    return words(9, splitting=r"\d|\D", bos_token=BOS)


def byte_level_bpe(highest: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE trained here on text with the numbers 0..highest, as GPT-2's and Pythia's."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=5000,
        special_tokens=[BOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([f"{n} {n}" for n in range(highest + 1)] * 4, trainer)
    return wrapped(core, eos_token=BOS)


# -- byte-level BPE; every listed word is one token --------------------------------------------------------------------


def _byte_level(words: list[str], specials: list[str], pre_tokenizer: pre_tokenizers.PreTokenizer) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([*specials, *alphabet, *words]))}
    core = Tokenizer(models.BPE(vocabulary, [], ignore_merges=True))
    core.pre_tokenizer = pre_tokenizer
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(specials)
    return core


def gpt2_like(highest: int) -> PreTrainedTokenizerFast:
    """GPT-2's and GPT-J's kind: `12` and `Ġ12` are tokens, BOS, EOS and unknown are one token, nothing is added."""
    words = [space + str(n) for n in range(highest + 1) for space in ("", "Ġ")] + [f"Ġ{sign}" for sign in SIGNS]
    core = _byte_level(words, [BOS], pre_tokenizers.ByteLevel(add_prefix_space=False))
    return wrapped(core, bos_token=BOS, eos_token=BOS, unk_token=BOS)


def _tiktoken(numbers: str, words: list[str], specials: list[str]) -> Tokenizer:
    split = pre_tokenizers.Split(Regex(TIKTOKEN.replace("NUMBERS", numbers)), behavior="isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return _byte_level(words + [f"Ġ{sign}" for sign in SIGNS], specials, pre_tokenizers.Sequence([split, level]))


def llama3_like() -> PreTrainedTokenizerFast:
    """Groups of up to three digits are tokens, a space before a number is its own token, and a BOS is added."""
    start, end = "<|begin_of_text|>", "<|end_of_text|>"
    core = _tiktoken(r"\p{N}{1,3}", [str(n) for n in range(1000)], [start, end])
    adding(core, before=[start])
    return wrapped(core, bos_token=start, eos_token=end)


def olmo2_like() -> PreTrainedTokenizerFast:
    """As Llama 3's, but nothing is added and only an EOS is named."""
    return wrapped(_tiktoken(r"\p{N}{1,3}", [str(n) for n in range(1000)], [BOS]), eos_token=BOS)


def qwen_like() -> PreTrainedTokenizerFast:
    """Every digit is a token; nothing is added and only an EOS is named."""
    return wrapped(_tiktoken(r"\p{N}", [], [BOS]), eos_token=BOS)


def adding(core: Tokenizer, *, before: list[str], after: list[str] | None = None) -> None:
    """Let a tokenizer put special tokens around every text."""
    specials = [(token, core.token_to_id(token)) for token in dict.fromkeys([*before, *(after or [])])]
    core.post_processor = processors.TemplateProcessing(
        single=[*before, "$A", *(after or [])], pair=[*before, "$A", "$B"], special_tokens=specials
    )


# -- SentencePiece -----------------------------------------------------------------------------------------------------

_PIECES = [UNKNOWN, START, END, *(f"<0x{byte:02X}>" for byte in range(256))]


def unigram(
    highest: int, *, dummy: bool, spaced: int | None = None, unspaced: int | None = None
) -> PreTrainedTokenizerFast:
    """SentencePiece's unigram model: whole numbers, with `dummy` a `▁` before every text.

    `▁n` is a token up to `spaced` (-1: for no n) and `n` up to `unspaced`, `highest` where not given.
    """
    bare = [str(n) for n in range((highest if unspaced is None else unspaced) + 1)]
    after_space = [f"▁{n}" for n in range((highest if spaced is None else spaced) + 1)]
    words = [*"Q:", *SIGNS, *(f"▁{sign}" for sign in SIGNS), *bare, *after_space]
    scores = {word: -3.0 - 0.1 * (not word[0].isdecimal()) for word in words} | {"▁": -2.0}
    core = Tokenizer(models.Unigram([(p, 0.0) for p in _PIECES] + list(scores.items()), unk_id=0, byte_fallback=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first" if dummy else "never", split=True)
    core.add_special_tokens([START, END])
    return wrapped(core, bos_token=START, eos_token=END, unk_token=UNKNOWN)


def sentencepiece_bpe(highest: int, *, dummy: bool, start: str = START) -> PreTrainedTokenizerFast:
    """Llama 2's and Mistral's (`dummy`) and Gemma's kind, with a BOS added; `highest` 9 splits numbers into digits."""
    numbers = [str(n) for n in range(highest + 1)]
    known = set(numbers)
    merges = [(n[:i], n[i:]) for n in numbers for i in range(1, len(n)) if {n[:i], n[i:]} <= known]
    merges += [("▁", word) for word in [*SIGNS, *(numbers if highest > 9 else [])]]
    pieces = [start if piece == START else piece for piece in _PIECES]
    words = [*pieces, *"Q:", *SIGNS, "▁", *numbers, *(a + b for a, b in merges)]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    core = Tokenizer(models.BPE(vocabulary, merges, unk_token=UNKNOWN, byte_fallback=True, fuse_unk=True))
    space = normalizers.Replace(" ", "▁")
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), space]) if dummy else space
    core.add_special_tokens([start, END])
    adding(core, before=[start])
    return wrapped(core, bos_token=start, eos_token=END, unk_token=UNKNOWN)
