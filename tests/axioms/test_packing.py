"""Packed questions: the same numbers as one by one, for every kind of positions, and a loss at the marks alone."""

from dataclasses import replace

import pytest
import torch
from axioms.tiny_axiom import TINY_AXIOM

from arithcirc.axioms.course import AxiomBatches, AxiomCourse, stream_of
from arithcirc.axioms.graphs import Graph, question
from arithcirc.axioms.packing import IGNORED, encode_row, label_loss, packed_batch
from arithcirc.axioms.text import write
from arithcirc.axioms.tokenizer import build_core, vocabulary
from arithcirc.errors import RequestError
from arithcirc.training.positions import POSITION_KINDS

KNOWN = vocabulary()
LONG = replace(TINY_AXIOM, chain_lengths=(3, 6), name_lengths=(1, 3), init_std=0.1, questions_per_graph=8)


def premises(count=5):
    stream = stream_of(LONG, LONG.curriculum_steps)
    return [stream.premise(i, questions=8).questions for i in range(count)]


@pytest.mark.parametrize("kind", POSITION_KINDS)
@torch.no_grad()
def test_packed_questions_equal_separate_ones(kind):
    model = AxiomCourse(replace(LONG, position_kind=kind)).model().eval()
    asked = premises()
    batch = packed_batch([encode_row(questions, KNOWN) for questions in asked], fill=KNOWN["."])
    labels = batch.pop("labels")
    packed = model(**batch).logits[labels != IGNORED]
    separate = []
    for one in (q for questions in asked for q in questions):
        alone = packed_batch([encode_row([one], KNOWN)], fill=KNOWN["."])
        assert set(alone) == {"input_ids", "labels"}
        separate.append(model(input_ids=alone["input_ids"]).logits[0, -1])
    assert torch.allclose(packed, torch.stack(separate), atol=1e-5)
    unmasked = model(input_ids=batch["input_ids"]).logits[labels != IGNORED]
    assert not torch.allclose(packed, unmasked, atol=1e-2)


@torch.no_grad()
def test_single_questions_of_several_lengths_share_a_batch():
    model = AxiomCourse(LONG).model().eval()
    rows = [encode_row(questions[:1], KNOWN) for questions in premises()]
    batch = packed_batch(rows, fill=KNOWN["."])
    assert "attention_mask" not in batch
    logits = model(input_ids=batch["input_ids"]).logits[batch["labels"] != IGNORED]
    for row, found in zip(rows, logits, strict=True):
        alone = torch.tensor([[*row.premise, *row.questions[0]]])
        assert torch.allclose(found, model(input_ids=alone).logits[0, -1], atol=1e-5)


def test_a_row_is_the_text_with_labels_at_its_marks():
    core, asked = build_core(), premises(1)[0]
    batch = packed_batch([encode_row(asked, KNOWN)], fill=KNOWN["."])
    ids, labels, places = (batch[name][0].tolist() for name in ("input_ids", "labels", "position_ids"))
    shared = len(core.encode(write(asked[0])).ids) - sum(places[i] >= len(ids) for i in range(len(ids)))
    marks = [i for i, label in enumerate(labels) if label != IGNORED]
    assert [ids[i] for i in marks] == [KNOWN["?"]] * 8
    assert [labels[i] for i in marks] == [KNOWN["Yes" if q.label else "No"] for q in asked]
    starts = [ids.index(KNOWN["Does"]), *(i + 1 for i in marks[:-1])]
    for one, start, mark in zip(asked, starts, marks, strict=True):
        assert [*ids[: starts[0]], *ids[start : mark + 1]] == core.encode(write(one)).ids
        assert places[start : mark + 1] == list(range(starts[0], starts[0] + mark + 1 - start))
    assert shared >= starts[0]


def test_the_loss_is_that_of_the_marks_over_the_whole_vocabulary():
    labels = torch.tensor([[IGNORED, 6, IGNORED], [7, IGNORED, 6]])
    logits = torch.randn(2, 3, 70, generator=torch.Generator().manual_seed(0))
    picked = [(0, 1, 6), (1, 0, 7), (1, 2, 6)]
    by_hand = -sum(logits[r, t].log_softmax(-1)[label] for r, t, label in picked) / 3
    assert torch.allclose(label_loss(logits, labels), by_hand)
    elsewhere = logits.clone()
    elsewhere[labels == IGNORED] += 100
    assert torch.equal(label_loss(elsewhere, labels), label_loss(logits, labels))


def test_questions_of_several_graphs_do_not_share_a_row():
    one, two = (question(Graph(("A", b), (("A", b),)), "A", b) for b in "BC")
    with pytest.raises(RequestError, match="several graphs"):
        encode_row([one, two], KNOWN)


def test_batches_are_a_function_of_recipe_and_step():
    one, two = AxiomBatches(TINY_AXIOM), AxiomBatches(TINY_AXIOM)
    late = one[13]
    assert all(torch.equal(late[name], value) for name, value in two[13].items())
    assert not torch.equal(late["input_ids"], two[14]["input_ids"])
    other = AxiomBatches(replace(TINY_AXIOM, seed=1))[13]
    assert other["input_ids"].shape != late["input_ids"].shape or not torch.equal(other["input_ids"], late["input_ids"])


def test_answers_of_a_batch_are_balanced():
    labels = AxiomBatches(TINY_AXIOM)[15]["labels"]
    assert (labels == KNOWN["Yes"]).sum() == (labels == KNOWN["No"]).sum() > 0


def test_chains_grow_within_the_curriculum():
    batches = AxiomBatches(TINY_AXIOM)
    assert [TINY_AXIOM.longest_chain(s) for s in (0, 3, 4, 7, 8, 11, 12, 15)] == [2, 2, 3, 3, 4, 4, 4, 4]
    for step in (0, 4, 12):
        sentences = {list(row.premise).count(KNOWN["."]) for row in batches.rows(step)}
        assert sentences == {0: {1}, 4: {2}, 12: {2, 3}}[step]


def test_a_finite_set_is_read_again_in_the_same_order():
    recipe = replace(TINY_AXIOM, examples=20, questions_per_graph=1, curriculum_steps=0)
    batches = AxiomBatches(recipe)
    rows = [row for step in range(5) for row in batches.rows(step)]
    assert rows[:20] == rows[20:]
    assert len({(tuple(row.premise), tuple(row.questions[0])) for row in rows[:20]}) == 20
    fresh = AxiomBatches(replace(recipe, examples=0))
    assert fresh.rows(0) == rows[:8]
    assert fresh.rows(3) != rows[24:32]
