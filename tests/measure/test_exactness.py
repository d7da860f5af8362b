"""The comparison of engine and hooked forwards: what it samples, what it counts, and that a wrong engine is found."""

import pytest
import torch
import toys
from torch import Tensor

from arithcirc.errors import RequestError
from arithcirc.measure.exactness import TOLERANCE, check_exactness, n_patches, random_tokens
from arithcirc.models.bridge import BridgedModel
from arithcirc.models.suffix import SuffixEngine

EVERYTHING = 10**6
Pair = tuple[Tensor, Tensor]


@pytest.fixture
def pair(toy_model: BridgedModel) -> Pair:
    return random_tokens(toy_model, 3)


def test_everything_is_compared_where_there_is_little(toy_model: BridgedModel, pair: Pair) -> None:
    table = check_exactness(toy_model, *pair, per_kind=EVERYTHING)
    counts = {"head": toys.LAYERS * toys.HEADS, "mlp": toys.LAYERS, "neuron": toys.LAYERS * toys.HIDDEN}
    assert table.groupby("kind")["patches"].unique().map(list).to_dict() == {k: [n] for k, n in counts.items()}
    assert table["token"].tolist() == [1, 2, 3, 4] * 3
    assert table["patches"].sum() == n_patches(toy_model, 5, per_kind=EVERYTHING)
    assert table["relative"].max() < TOLERANCE["float32"]
    assert (table["difference"] > 0).any(), "two ways to the same number round in two ways"
    last = table["token"] == 4
    assert (table.loc[last, "moved"] == 1).all()
    read = (toys.LAYERS - 1) / toys.LAYERS  # before the last token nothing reads the last layer
    assert table.loc[~last, "moved"].tolist() == pytest.approx([read] * 9)
    assert (table[["engine_seconds", "hooked_seconds"]] > 0).all(axis=None)


def test_a_sample_has_every_layer_and_token(
    toy_model: BridgedModel, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real = SuffixEngine.run

    def watched(self: SuffixEngine, patches: list, *rest: object, **options: object) -> Tensor:
        seen.extend(f"{p.component}@{p.index}" for p in patches)
        return real(self, patches, *rest, **options)

    monkeypatch.setattr(SuffixEngine, "run", watched)
    draws = []
    for seed in (0, 0, 1):
        told: list[int] = []
        table = check_exactness(toy_model, *pair, per_kind=30, seed=seed, progress=told.append)
        assert table.groupby("kind")["patches"].sum().to_dict() == {"head": 24, "mlp": 12, "neuron": 24}
        assert sum(told) == n_patches(toy_model, 5, per_kind=30) == len(set(seen)) == len(seen)
        assert {(s[:3], s[-1]) for s in seen if "N" in s} == {(f"L{i}N", str(t)) for i in range(3) for t in range(1, 5)}
        draws.append(sorted(seen))
        seen.clear()
    assert draws[0] == draws[1] != draws[2]
    least = check_exactness(toy_model, *pair, per_kind=1)
    assert (least["patches"] == toys.LAYERS).all()


def test_batches_do_not_matter(toy_model: BridgedModel, pair: Pair) -> None:
    one, other = (check_exactness(toy_model, *pair, per_kind=40, batch_size=n) for n in (1, 1000))
    for column in ("kind", "token", "patches", "prompts", "moved"):
        assert one[column].tolist() == other[column].tolist()
    assert one["largest_logit"].to_numpy() == pytest.approx(other["largest_logit"].to_numpy(), rel=1e-5)
    assert max(one["relative"].max(), other["relative"].max()) < TOLERANCE["float32"]


@pytest.mark.parametrize("where", ["_delta", "unembed"])
def test_a_wrong_engine_is_found(
    toy_model: BridgedModel, pair: Pair, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """One part in a thousand, in what is added for a patch or in how the logits are read."""
    kind = SuffixEngine if where == "_delta" else BridgedModel
    real = getattr(kind, where)
    monkeypatch.setattr(kind, where, lambda *given: real(*given) * 1.001)
    table = check_exactness(toy_model, *pair, per_kind=40)
    assert (table.groupby("kind")["relative"].max() > TOLERANCE["float32"]).all()


def test_random_tokens_share_the_first_and_nothing_else(toy_model: BridgedModel) -> None:
    clean, source = random_tokens(toy_model, 40, length=7)
    assert clean.shape == source.shape == (40, 7)
    assert (clean[:, 0] == toy_model.tokenizer.bos_token_id).all()
    assert (source[:, 0] == toy_model.tokenizer.bos_token_id).all()
    assert (clean[:, 1:] != source[:, 1:]).all()
    assert 0 <= min(clean.min(), source.min()) <= max(clean.max(), source.max()) < toy_model.info.d_vocab
    assert torch.equal(clean, random_tokens(toy_model, 40, length=7)[0])
    assert not torch.equal(clean, random_tokens(toy_model, 40, length=7, seed=1)[0])


def test_without_a_bos_the_first_token_is_still_shared(
    toy_model: BridgedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy_model, "tokenizer", None)
    clean, source = random_tokens(toy_model, 9)
    assert len({*clean[:, 0].tolist(), *source[:, 0].tolist()}) == 1


@pytest.mark.parametrize(("n_prompts", "length"), [(0, 5), (3, 1)])
def test_nothing_to_compare_is_refused(toy_model: BridgedModel, n_prompts: int, length: int) -> None:
    with pytest.raises(RequestError, match="give 1 prompt or more, of 2 tokens or more"):
        random_tokens(toy_model, n_prompts, length=length)
