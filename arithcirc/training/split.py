"""What a model never saw: the held-out split, asked for from the recipe alone.

Every legal prompt gets a 64-bit key, a mix of (split seed, operator, op1, op2). Within an operator the prompts with the
smallest keys, `held_out_share` of them rounded to the nearest whole prompt, are held out. The key needs no table, so
the split of any prompt can be asked later. Needs no torch.
"""

import numpy as np
from jaxtyping import Bool, UInt64

from arithcirc.arithmetic.operators import OPERATORS, Operator, Prompts, legal_prompts
from arithcirc.errors import RequestError
from arithcirc.training.recipe import Recipe


def _mix(x: UInt64[np.ndarray, "prompt"]) -> UInt64[np.ndarray, "prompt"]:
    """The finaliser of splitmix64 on unsigned 64-bit numbers, which wrap."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)), dtype=np.uint64)


def _keys(seed: int, op: Operator, prompts: Prompts) -> UInt64[np.ndarray, "prompt"]:
    """One 64-bit key per prompt of this operator; distinct for distinct (op1, op2) below 2^32."""
    salt = _mix(
        np.array([seed * len(OPERATORS) + OPERATORS.index(op) + 1], dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    )
    pair = (prompts.op1.astype(np.uint64) << np.uint64(32)) | prompts.op2.astype(np.uint64)
    return _mix(_mix(pair + salt) + salt)


def _threshold(recipe: Recipe, op: Operator) -> np.uint64:
    """The largest held-out key of an operator."""
    keys = np.sort(_keys(recipe.split_seed, op, legal_prompts(op, recipe.operands, recipe.limit)))
    count = round(recipe.held_out_share * len(keys))
    if not 0 < count < len(keys):
        raise RequestError(
            f"held_out_share {recipe.held_out_share} of {len(keys)} prompts of {op} leaves one part empty: "
            "widen the operands or change the share"
        )
    return np.uint64(keys[count - 1])


def held_out_mask(recipe: Recipe, prompts: Prompts) -> Bool[np.ndarray, "prompt"]:
    """True for prompts that the recipe keeps out of training, in the order given.

    A prompt outside the recipe's operands or results was in neither part and comes out False.
    """
    low, high = recipe.operands.low, recipe.operands.high
    inside = (np.minimum(prompts.op1, prompts.op2) >= low) & (np.maximum(prompts.op1, prompts.op2) <= high)
    inside &= (prompts.answer >= 0) & (prompts.answer <= recipe.limit)
    mask = np.zeros(len(prompts), dtype=bool)
    for op in OPERATORS:
        mine = np.flatnonzero(inside & (prompts.symbols == op.symbol))
        if len(mine):
            mask[mine] = _keys(recipe.split_seed, op, prompts[mine]) <= _threshold(recipe, op)
    return mask
