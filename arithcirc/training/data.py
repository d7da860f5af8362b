"""What the model may learn from, and in which order: the two parts of the split (split.py) and the packed batches.

Packing. A row holds one prefix `BOS op1 operator` and K suffixes `op2 =`. Each suffix sees the prefix and itself, at
positions 3 and 4, so a row computes exactly what K separate prompts compute, on 3 + 2K tokens instead of 5K. The loss
is read at the K `=` tokens alone. Prompts are uniform within an operator up to the last bit: op1 is drawn with the
number of its training prompts as weight; suffixes of a row do not repeat while the row has enough prompts.

Batch i is a pure function of (recipe, i), so a resumed run sees what an uninterrupted one would have seen.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from arithcirc.arithmetic.operators import OPERATORS, Operator, Prompts, concatenate, legal_prompts
from arithcirc.training.course import Batch
from arithcirc.training.recipe import Recipe
from arithcirc.training.split import held_out_mask
from arithcirc.training.tokenizer import BOS_ID, EQUALS_ID, NUMBER_ID, OPERATOR_ID

PREFIX = 3


class Split(NamedTuple):
    """The two parts of an operator's legal prompts."""

    train: Prompts
    held_out: Prompts


def split(recipe: Recipe, op: Operator) -> Split:
    """All legal prompts of an operator in two parts, each op1-major."""
    legal = legal_prompts(op, recipe.operands, recipe.limit)
    mask = held_out_mask(recipe, legal)
    return Split(legal[~mask], legal[mask])


def sample(prompts: Prompts, count: int, seed: int) -> Prompts:
    """At most `count` distinct prompts, chosen with the seed, in their original order."""
    chosen = np.random.default_rng([seed, len(prompts)]).permutation(len(prompts))[:count]
    return prompts[np.sort(chosen)]


def packed_mask(suffixes: int) -> Bool[Tensor, "token token"]:
    """Who sees whom in a row: causal prefix; each suffix sees the prefix and itself, causally."""
    length = PREFIX + 2 * suffixes
    block = torch.zeros(length, dtype=torch.long)
    block[PREFIX:] = torch.arange(2 * suffixes) // 2 + 1
    same = (block[:, None] == block[None, :]) | (block[None, :] == 0)
    return same & torch.ones(length, length, dtype=torch.bool).tril()


class _Table(NamedTuple):
    """Training prompts of one operator, grouped by op1."""

    op2: Int[np.ndarray, "prompt"]
    answer: Int[np.ndarray, "prompt"]
    start: Int[np.ndarray, "edge"]
    weight: Float[np.ndarray, "operand"]


def _table(recipe: Recipe, op: Operator) -> _Table:
    """Prompts are op1-major already, so the group of op1 is start[op1 - low] : start[op1 - low + 1]."""
    train = split(recipe, op).train
    counts = np.bincount(train.op1 - recipe.operands.low, minlength=len(recipe.operands))
    return _Table(train.op2, train.answer, np.concatenate([[0], np.cumsum(counts)]), counts / counts.sum())


class PackedBatches(Dataset[Batch]):
    """Item i is the whole batch of step i, with the names that GPTNeoXForCausalLM takes and `labels` apart."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def __len__(self) -> int:
        return self.recipe.steps

    @cached_property
    def _tables(self) -> list[_Table]:
        return [_table(self.recipe, op) for op in OPERATORS]

    def __getitem__(self, index: int) -> Batch:
        recipe, k = self.recipe, self.recipe.suffixes
        rng = np.random.default_rng([recipe.seed, index])
        ids = np.full((recipe.rows, PREFIX + 2 * k), EQUALS_ID, dtype=np.int64)
        labels = np.empty((recipe.rows, k), dtype=np.int64)
        ids[:, 0] = BOS_ID
        for row, which in enumerate(rng.choice(len(OPERATORS), size=recipe.rows, p=recipe.mix.shares())):
            table = self._tables[which]
            op1 = int(rng.choice(len(table.weight), p=table.weight))
            low, high = int(table.start[op1]), int(table.start[op1 + 1])
            chosen = low + rng.choice(high - low, size=k, replace=high - low < k)
            ids[row, 1:PREFIX] = NUMBER_ID + recipe.operands.low + op1, OPERATOR_ID + which
            ids[row, PREFIX::2] = NUMBER_ID + table.op2[chosen]
            labels[row] = NUMBER_ID + table.answer[chosen]
        return {**packed_inputs(torch.from_numpy(ids)), "labels": torch.from_numpy(labels)}


def packed_inputs(ids: Int[Tensor, "row token"]) -> Batch:
    """Model inputs for packed rows; the logits come out at the `=` tokens, shape (row, suffix, vocabulary)."""
    rows, length = ids.shape
    k = (length - PREFIX) // 2
    positions = torch.cat([torch.arange(PREFIX), torch.tensor([PREFIX, PREFIX + 1]).repeat(k)])
    return {
        "input_ids": ids,
        "position_ids": positions.expand(rows, -1),
        "attention_mask": packed_mask(k).expand(rows, 1, -1, -1),
        "logits_to_keep": PREFIX + 1 + 2 * torch.arange(k),
    }


def unpack(ids: Int[Tensor, "row token"]) -> Int[Tensor, "prompt five"]:
    """The separate five-token prompts that packed rows stand for, row-major."""
    suffixes = ids[:, PREFIX:].reshape(len(ids), -1, 2)
    prefix = ids[:, None, :PREFIX].expand(-1, suffixes.shape[1], -1)
    return torch.cat([prefix, suffixes], dim=2).reshape(-1, PREFIX + 2)


def held_out(recipe: Recipe) -> Prompts:
    """All held-out prompts of the four operators, operator by operator."""
    return concatenate(split(recipe, op).held_out for op in OPERATORS)
