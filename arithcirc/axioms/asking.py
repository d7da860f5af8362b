"""Ask a trained model questions: the most likely next token after the question mark, out of the whole vocabulary.

An answer is right when that token is the label's word; a model that says neither Yes nor No is wrong. Each question is
read alone, not packed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer
from torch import Tensor

from arithcirc.axioms.graphs import Question
from arithcirc.axioms.packing import encode_row
from arithcirc.axioms.tokenizer import SIGNS, WORDS
from arithcirc.errors import ModelError, NumericsError
from arithcirc.training.model import load_step
from arithcirc.training.positions import check_length

BATCH_TOKENS = 32_768
"""Tokens read at once."""


@dataclass(frozen=True)
class AxiomModel:
    """A decoder in evaluation mode, and its vocabulary: token -> id."""

    network: Any
    known: Mapping[str, int]


@dataclass(frozen=True)
class Answers:
    """What a model said: token ids, whether they are right, and how far Yes is above No, in nats."""

    said: Int[np.ndarray, "question"]
    right: Bool[np.ndarray, "question"]
    margin: Float[np.ndarray, "question"]

    def __len__(self) -> int:
        return len(self.said)

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(self.right.mean())


def open_model(folder: Path, *, device: str = "cpu") -> AxiomModel:
    """The model of a step folder in float32. Raises ModelError for a folder of another vocabulary or of no model."""
    path = folder / "tokenizer.json"
    if not path.is_file() or not (folder / "config.json").is_file():
        raise ModelError(f"{folder} holds no model with a tokenizer: give the step folder of a trained axiom model")
    known = Tokenizer.from_file(str(path)).get_vocab()
    if missing := [word for word in (*SIGNS, *WORDS) if word not in known]:
        raise ModelError(
            f"{folder} has another vocabulary, without {missing[0]!r}: give a model that learned axioms, "
            "trained by arithcirc axioms"
        )
    network = load_step(folder, device)
    if network.config.vocab_size != len(known):
        raise ModelError(
            f"{folder} is a model of {network.config.vocab_size} tokens beside a tokenizer of {len(known)}: "
            "give a folder whose files belong together"
        )
    return AxiomModel(network, known)


@torch.no_grad()
def ask(
    model: AxiomModel,
    questions: Sequence[Question],
    *,
    batch_tokens: int = BATCH_TOKENS,
    progress: Callable[[int], None] | None = None,
) -> Answers:
    """Answers in the order of the questions. `progress` is told of questions as they are answered.

    Raises RequestError for a question beyond the model's table of positions, TokenizerError for a name that its
    vocabulary cannot write, NumericsError for logits that are not finite.
    """
    rows = [encode_row([asked], model.known) for asked in questions]
    ids = [(*row.premise, *row.questions[0]) for row in rows]
    check_length(model.network.config, max(map(len, ids), default=0))
    wanted = np.array([row.answers[0] for row in rows], dtype=np.int64)
    said, margin = np.empty(len(ids), dtype=np.int64), np.empty(len(ids), dtype=np.float64)
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * len(ids[order[stop]]) <= batch_tokens:
            stop += 1
        chosen = order[start:stop]
        logits = last_logits(model, [ids[i] for i in chosen])
        said[chosen] = logits.argmax(-1).cpu().numpy()
        margin[chosen] = (logits[:, model.known["Yes"]] - logits[:, model.known["No"]]).double().cpu().numpy()
        start = stop
        if progress is not None:
            progress(len(chosen))
    return Answers(said, said == wanted, margin)


@torch.no_grad()
def last_logits(model: AxiomModel, prompts: Sequence[Sequence[int]]) -> Float[Tensor, "prompt vocab"]:
    """Float32 logits after the last token of each prompt. Raises NumericsError when they are not finite."""
    ends = torch.tensor([len(ids) for ids in prompts])
    tokens = torch.full((len(prompts), int(ends.max())), model.known["."])
    for row, ids in enumerate(prompts):
        tokens[row, : len(ids)] = torch.tensor(ids)
    device = model.network.device
    inputs: dict[str, Tensor] = {"input_ids": tokens.to(device)}
    if getattr(model.network.config, "position_kind", None) == "none":  # whose table of zeros need not end
        inputs |= {
            "position_ids": torch.zeros_like(inputs["input_ids"]),
            "attention_mask": torch.ones_like(inputs["input_ids"]),
        }
    logits = model.network(**inputs, use_cache=False).logits[torch.arange(len(prompts)), (ends - 1).to(device)].float()
    if not torch.isfinite(logits).all():
        raise NumericsError("the model's logits are not finite: lower the learning rate and train again")
    found: Tensor = logits
    return found
