"""Tokenizers of several kinds, built in memory."""

import warnings

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

BOS, UNKNOWN = "<|endoftext|>", "<unk>"


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
