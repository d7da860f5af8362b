"""Two optimisers as one: the same updates as each alone, scheduled together, restored together."""

import copy

import torch
from torch.optim import AdamW, Muon
from training.tiny import TINY

from arithcirc.training.data import PackedBatches
from arithcirc.training.model import build_model
from arithcirc.training.optim import MuonWithAdamW, build_optimizer
from arithcirc.training.plan import answer_loss
from arithcirc.training.recipe import Recipe


def _step(model, optimizer, index):
    batch = PackedBatches(TINY)[index]
    labels = batch.pop("labels")
    answer_loss(model(**batch).logits, labels).backward()
    optimizer.step()
    optimizer.zero_grad()


def test_every_parameter_has_one_home():
    model = build_model(TINY)
    optimizer = build_optimizer(model, TINY)
    owned = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in owned} == {id(p) for p in model.parameters()}
    assert len(owned) == len(list(model.parameters()))
    assert isinstance(build_optimizer(model, Recipe(optimizer="adamw")), AdamW)


def test_updates_equal_those_of_the_two_alone():
    ours, theirs = build_model(TINY), build_model(TINY)
    optimizer = build_optimizer(ours, TINY)
    matrices = [p for n, p in theirs.named_parameters() if p.ndim == 2 and "embed_in" not in n]
    rest = [p for n, p in theirs.named_parameters() if p.ndim == 2 and "embed_in" in n]
    vectors = [p for p in theirs.parameters() if p.ndim != 2]
    muon = Muon(matrices, lr=TINY.muon_learning_rate, weight_decay=TINY.weight_decay)
    groups = [{"params": rest, "weight_decay": TINY.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    adamw = AdamW(groups, lr=TINY.learning_rate, betas=TINY.betas, fused=True)
    for i in range(3):
        _step(ours, optimizer, i)
        batch = PackedBatches(TINY)[i]
        labels = batch.pop("labels")
        theirs.zero_grad()
        answer_loss(theirs(**batch).logits, labels).backward()
        muon.step()
        adamw.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_scheduler_reaches_both():
    optimizer = build_optimizer(build_model(TINY), TINY)
    assert isinstance(optimizer, MuonWithAdamW)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 0.5)
    assert optimizer.children["muon"].param_groups[0]["lr"] == 0.5 * TINY.muon_learning_rate
    assert optimizer.children["adamw"].param_groups[1]["lr"] == 0.5 * TINY.learning_rate
    assert len(schedule.get_last_lr()) == 3


def test_state_survives_saving():
    one, two = build_model(TINY), build_model(TINY)
    first, second = build_optimizer(one, TINY), build_optimizer(two, TINY)
    _step(one, first, 0)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    two.load_state_dict(one.state_dict())
    second.param_groups[0]["lr"] = first.param_groups[0]["lr"] = 0.01
    _step(one, first, 1)
    _step(two, second, 1)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
