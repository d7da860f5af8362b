"""A word-level tokenizer in the `tokenizers` format: one token per number, operator, `=`, and the specials.

Ids: BOS 0, pad 1, unknown 2, `+ - * /` 3..6, `=` 7, the number n is 8 + n for n in 0..limit. Digits are read greedily,
so `226-68=` is four tokens and `531` (limit 530) is unknown. Like Pythia's, the tokenizer adds no BOS by itself: a
caller writes it into the text or prepends its id. Spaces separate and vanish; decoding joins tokens without spaces.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from arithcirc.arithmetic.operators import OPERATORS, Prompts
from arithcirc.errors import TokenizerError

BOS, PAD, UNKNOWN = "<|endoftext|>", "<|padding|>", "<|unknown|>"
BOS_ID, PAD_ID, UNKNOWN_ID = 0, 1, 2
OPERATOR_ID = 3
EQUALS_ID = OPERATOR_ID + len(OPERATORS)
NUMBER_ID = EQUALS_ID + 1


def vocabulary(limit: int) -> dict[str, int]:
    """Token text -> id for numbers 0..limit."""
    words = [BOS, PAD, UNKNOWN, *(o.symbol for o in OPERATORS), "=", *(str(n) for n in range(limit + 1))]
    return {word: i for i, word in enumerate(words)}


def build_tokenizer(limit: int) -> PreTrainedTokenizerFast:
    """The tokenizer for numbers 0..limit, ready for `save_pretrained`; loads again through AutoTokenizer."""
    core = Tokenizer(models.WordLevel(vocabulary(limit), unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"\d+|\D"), behavior="isolated")]
    )
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        bos_token=BOS,
        eos_token=BOS,
        pad_token=PAD,
        unk_token=UNKNOWN,
        model_max_length=32,
        clean_up_tokenization_spaces=False,
    )


def save_tokenizer(limit: int, folder: Path) -> None:
    """Write the tokenizer files into the folder."""
    build_tokenizer(limit).save_pretrained(folder)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Any tokenizer from a folder with its tokenizer.json. Raises TokenizerError when there is none."""
    if not (folder / "tokenizer.json").is_file():
        raise TokenizerError(f"{folder} has no tokenizer.json: give the folder of a fast tokenizer's files")
    try:
        found: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise TokenizerError(f"the tokenizer in {folder} cannot be read: {error}") from None
    tokenizer: PreTrainedTokenizerFast = found
    return tokenizer


def token_ids(prompts: Prompts) -> Int[np.ndarray, "prompt token"]:
    """Ids of `BOS op1 operator op2 =` for each prompt, five columns."""
    order = {o.symbol: OPERATOR_ID + i for i, o in enumerate(OPERATORS)}
    ids = np.empty((len(prompts), 5), dtype=np.int64)
    ids[:, 0] = BOS_ID
    ids[:, 1] = NUMBER_ID + prompts.op1
    ids[:, 2] = [order[str(s)] for s in prompts.symbols]
    ids[:, 3] = NUMBER_ID + prompts.op2
    ids[:, 4] = EQUALS_ID
    return ids


def answer_ids(prompts: Prompts) -> Int[np.ndarray, "prompt"]:
    """Id of each prompt's correct answer."""
    return NUMBER_ID + prompts.answer
