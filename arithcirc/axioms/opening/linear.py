"""Linear probes of two classes in closed form, many placebos at the price of one.

Least squares on targets of +1 and -1 with a ridge: for two classes of equal size this is Fisher's discriminant. On
features x of the training examples, each of zero mean and unit spread,

    w = (X^T X / n + RIDGE)^-1 X^T y / n,    answer: sign(w x + b)

Nothing is drawn by chance, so a result has no seed, and the same inverse serves labels shuffled among the training
examples, whose accuracy on held-out ones says what a probe of this size finds in nothing.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

RIDGE = 1e-2


def read_linear(
    features: Float[Tensor, "example d"],
    labels: Bool[np.ndarray, "example"],
    *,
    train: int,
    shuffles: int,
    rng: np.random.Generator,
) -> tuple[Bool[np.ndarray, "test"], Float[np.ndarray, "shuffle"]]:
    """Which held-out examples are read rightly, and the accuracy with shuffled training labels.

    The first `train` examples are trained on, the rest held out.
    """
    x = features.double().cpu()
    seen = x[:train]
    mean, spread = seen.mean(0), seen.std(0, correction=0)
    x = (x - mean) / torch.where(spread > 1e-6, spread, 1.0)
    signs = np.where(labels[:train], 1.0, -1.0)
    y = torch.from_numpy(np.stack([signs, *(rng.permutation(signs) for _ in range(shuffles))], axis=1))
    middle = y.mean(0)
    gram = x[:train].T @ x[:train] / train + RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
    weights = torch.linalg.solve(gram, x[:train].T @ (y - middle) / train)
    said = (x[train:] @ weights + middle > 0).numpy()
    right = said == labels[train:, None]
    return right[:, 0], right[:, 1:].mean(0)
