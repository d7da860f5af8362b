"""A key-value cache for replaying blocks: what came before is given, what is new is not kept."""

from typing import Any

from torch import Tensor
from transformers import Cache


class Prefix(Cache):
    """A cache that answers with prefix + new and keeps nothing; rows repeat the prefix's prompts in order."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__(layers=[])
        self._keys, self._values = keys, values

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return self._join(self._keys, key_states), self._join(self._values, value_states)

    @staticmethod
    def _join(before: Tensor, new: Tensor) -> Tensor:
        """Written once into place: expanding the prefix first would copy it twice."""
        n_rows, n_heads, width, d_head = new.shape
        whole = new.new_empty(n_rows, n_heads, before.shape[-2] + width, d_head)
        whole.view(-1, *before.shape[:2], *whole.shape[2:])[..., : before.shape[-2], :] = before
        whole[..., before.shape[-2] :, :] = new
        return whole

    def get_seq_length(self, *_: Any, **__: Any) -> int:
        return int(self._keys.shape[-2])
