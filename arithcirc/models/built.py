"""Models that were never saved: of any shape, with random weights, or on the meta device with none at all.

On the meta device a tensor has a shape and no values. Such a model runs all of this package's loops without computing
or taking memory, so what a job costs can be counted for a model of any size (`measure.cost`).
"""

import copy
from typing import Any

import torch

from arithcirc.models.bridge import BridgedModel
from arithcirc.models.files import DTYPES
from arithcirc.models.load import _bridge, _info
from arithcirc.models.shapes import Shape, configuration, meta_network, n_params, random_network
from arithcirc.models.zoo import Located


def built(
    shape: Shape, tokenizer: Any, *, name: str, device: str = "meta", dtype: str = "bfloat16", seed: int = 0
) -> BridgedModel:
    """A model of this shape, wrapped as loaded ones are, with random weights; on the device `meta` without values.

    The tokenizer's ids must be below the shape's vocabulary. Memory: the weights, and a quarter more for a moment.
    """
    config = configuration(shape)
    if device == "meta":
        network = meta_network(config).to(DTYPES[dtype]).requires_grad_(False)
    else:
        network = random_network(config, seed=seed, dtype=dtype, device=device)
    located = Located(name, "random", name, local=False)
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.init_kwargs = {"name_or_path": name} | tokenizer.init_kwargs  # asked for, and known of files only
    bridge = _bridge(located, network, tokenizer, DTYPES[dtype], torch.device(device))
    info = _info(located, config, bridge, n_params(shape), tokenizer, dtype, device, "random")
    return BridgedModel(bridge, tokenizer, info)
