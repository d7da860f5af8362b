"""Small models in Hugging Face format: three layers of width 48, the word-level tokenizer, numbers 0..60.

Random weights answer a handful of prompts rightly by chance, which is all that plumbing tests need. `answering` pushes
a model towards one number, `silent` towards a token that is no number, `broken` has NaN weights.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM

from arithcirc.pipeline.job import Job
from arithcirc.training.model import without_progress_bars
from arithcirc.training.tokenizer import BOS_ID, EQUALS_ID, NUMBER_ID, build_tokenizer, vocabulary

LIMIT = 60
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SMALL = ("--operands", "0..30", "--prompts", "2", "--random-circuits", "1")
"""Options of an analysis of a toy up to its circuit, in about a second."""
PROBED = (*SMALL, "--probe-prompts", "60", "--probe-epochs", "3")
RANKED = (*PROBED, "--top-neurons", "10", "--first-layer", "1", "--random-neurons", "1")
LABELLED = (*RANKED, "--null-draws", "20")
WHOLE = (*LABELLED, "--knockout-prompts", "5", "--by-prompt", "5", "--failures", "5")
"""Options of a whole analysis of a toy, in some seconds."""
LAYERS, WIDTH, HEADS, HIDDEN = 3, 48, 4, 96
_SEED = 1  # a draw with at least four right answers for every operator with operands 0..30


def gpt_neox(*, parallel: bool = True, limit: int = LIMIT, seed: int = _SEED) -> GPTNeoXForCausalLM:
    """A random GPT-NeoX, with parallel (Pythia) or sequential residual blocks."""
    config = GPTNeoXConfig(
        vocab_size=len(vocabulary(limit)),
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=HIDDEN,
        max_position_embeddings=32,
        initializer_range=0.4,
        use_parallel_residual=parallel,
        tie_word_embeddings=False,
        bos_token_id=BOS_ID,
        eos_token_id=BOS_ID,
    )
    return drawn(GPTNeoXForCausalLM, config, seed)


def gpt2(*, limit: int = LIMIT, seed: int = _SEED) -> GPT2LMHeadModel:
    """A random GPT-2: learned positions, sequential blocks, tied embeddings."""
    config = GPT2Config(
        vocab_size=len(vocabulary(limit)),
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        n_inner=HIDDEN,
        n_positions=32,
        initializer_range=0.4,
        bos_token_id=BOS_ID,
        eos_token_id=BOS_ID,
    )
    return drawn(GPT2LMHeadModel, config, seed)


def drawn(kind: Any, config: Any, seed: int) -> Any:
    """A model with random weights from this seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(config).eval()


def saying(token: int) -> GPTNeoXForCausalLM:
    """A random model pushed so hard towards one token that it always says it; its logits still vary."""
    model = gpt_neox()
    with torch.no_grad():
        unembed = model.get_output_embeddings().weight
        direction = torch.nn.functional.normalize(unembed[token], dim=0)
        unembed[token] += 20 * direction
        model.gpt_neox.final_layer_norm.bias += 20 * direction
    return model


def answering(number: int) -> GPTNeoXForCausalLM:
    """Always answers this number."""
    return saying(NUMBER_ID + number)


def silent() -> GPTNeoXForCausalLM:
    """Answers nothing rightly: it always says `=`."""
    return saying(EQUALS_ID)


def broken() -> GPTNeoXForCausalLM:
    """All logits are NaN."""
    model = gpt_neox()
    with torch.no_grad():
        model.gpt_neox.final_layer_norm.weight.fill_(torch.nan)
    return model


def save(model: Any, folder: Path, *, tokenizer: Any = None) -> Path:
    """Write a model and a tokenizer (default: word-level, 0..LIMIT) as a Hugging Face folder."""
    with without_progress_bars():
        model.save_pretrained(folder)
    (tokenizer or build_tokenizer(LIMIT)).save_pretrained(folder)
    return folder


def cached(folder: Path, cache: Path, name: str, revision: str = "main") -> Path:
    """Copy a model's folder into a hub cache as one revision of a hub model, with the commit COMMIT."""
    store = cache / f"models--{name.replace('/', '--')}"
    (store / "refs").mkdir(parents=True)
    (store / "refs" / revision).write_text(COMMIT)
    return Path(shutil.copytree(folder, store / "snapshots" / COMMIT))


@contextmanager
def counted_rows() -> Iterator[dict[str, tuple[int, int]]]:
    """For each stage run meanwhile, the rows it ran and the total it announced, whatever the progress bar shows."""
    seen: dict[str, tuple[int, int]] = {}

    def counter(_: Job, stage: str, total: int) -> Callable[[int], None]:
        def advance(rows: int) -> None:
            seen[stage] = (seen[stage][0] + rows, total)

        seen[stage] = (0, total)
        return advance

    with mock.patch.object(Job, "counter", counter):
        yield seen


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
