"""Opening models: patches of everything and nothing, against the suffix engine, a planted head, and whole runs."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from axioms.tiny_axiom import TINY_AXIOM

from arithcirc.axioms.evaluation import Cell, evaluation_set
from arithcirc.axioms.opening.ablation import ablated
from arithcirc.axioms.opening.api import compare, open_up
from arithcirc.axioms.opening.circuit import all_parts, eliminate, faithfulness, margins_of
from arithcirc.axioms.opening.designed import designed_set
from arithcirc.axioms.opening.edge_heads import _cut, edge_heads, relations
from arithcirc.axioms.opening.layout import layout_of, token_rows
from arithcirc.axioms.opening.minimal_pairs import minimal_pairs
from arithcirc.axioms.opening.neurons import knockouts, neuron_table
from arithcirc.axioms.opening.opened import open_folder
from arithcirc.axioms.opening.patching import patch_pairs
from arithcirc.axioms.opening.reach_probes import reach_probes
from arithcirc.axioms.opening.replay import Replay
from arithcirc.axioms.opening.stages import STAGES
from arithcirc.axioms.opening.walk import walk
from arithcirc.axioms.tokenizer import save_tokenizer, vocabulary
from arithcirc.components import Head, Mlp
from arithcirc.errors import ModelError, RequestError, RunConflictError
from arithcirc.models.suffix import Patch, SuffixEngine
from arithcirc.store import write_json
from arithcirc.training.axiom_model import positioned_model
from arithcirc.training.model import save_step

SHAPE = replace(TINY_AXIOM, init_std=0.3, embedding_std=0.3, width=32, heads=2, mlp_width=32, chain_lengths=(3, 5))


def made(folder, recipe, change=None):
    """A random model in a step folder, its recipe beside it."""
    model = positioned_model(recipe, vocabulary=len(vocabulary()), pad=0, seed=0)
    if change is not None:
        with torch.no_grad():
            change(model)
    save_step(model, folder / "step1", dtype="float32", save_tokenizer=save_tokenizer)
    write_json(folder / "recipe.json", recipe.to_json())
    return folder / "step1"


class Stopped(Exception):
    """What a test kills a run with."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made(tmp_path_factory.mktemp("opening") / "none", SHAPE)


@pytest.fixture(scope="module")
def opened(folder):
    return open_folder(folder)


@pytest.fixture(scope="module")
def questions(opened):
    return tuple(one.question for one in designed_set(opened.nodes, 24, seed=0, names=opened.names))


@pytest.fixture(scope="module")
def halves(opened):
    """Clean runs of two prompts' worth of tokens, and the replay of the first."""
    pairs = minimal_pairs("edge turned", 5, 6, seed=0, names=opened.names)
    yes, no = (token_rows([getattr(p, a) for p in pairs], opened.asked.known) for a in ("yes", "no"))
    replay = Replay(opened.hooked, yes, opened.margin, rows=13)
    return replay, opened.hooked.record(no, parts=("z", "post", "mlp_out")), yes


def test_patching_everything_is_the_other_run_and_nothing_is_this_one(opened, halves):
    replay, other, tokens = halves
    where = torch.stack([torch.ones_like(tokens, dtype=torch.bool), torch.zeros_like(tokens, dtype=torch.bool)])
    wanted = opened.margin(other.logits)
    assert (wanted - replay.margin).abs().max() > 0.1
    for layer in range(opened.hooked.info.n_layers + 1):
        found = replay.residual(layer, other.resid[layer], where)
        torch.testing.assert_close(found[0], wanted, atol=1e-5, rtol=0)
        assert torch.equal(found[1], replay.margin)


def test_patches_of_one_token_are_the_suffix_engine_s(opened, halves):
    replay, other, tokens = halves
    engine = SuffixEngine(opened.hooked, tokens, parts={"z"})
    n_pos, heads = tokens.shape[1], opened.hooked.info.n_heads
    where = torch.eye(n_pos, dtype=torch.bool)[:, None].expand(n_pos, len(tokens), n_pos)
    for layer in range(opened.hooked.info.n_layers):
        z, post = other.activations.z[layer], other.activations.post[layer]
        found = {Mlp(layer): replay.mlp(layer, post, where)}
        for head in range(heads):
            found[Head(layer, head)] = replay.heads(layer, z, where[..., None] & (torch.arange(heads) == head))
        for part, margins in found.items():
            patches = [Patch(part, index) for index in range(1, n_pos)]
            reduce = lambda logits, _: opened.margin(logits)[..., None]  # noqa: E731
            wanted = engine.run(patches, other.activations, reduce, batch_size=64)[..., 0]
            torch.testing.assert_close(margins[1:], wanted, atol=1e-5, rtol=0)


def test_effects_start_at_the_changed_tokens_and_end_at_the_mark(opened):
    pairs = minimal_pairs("question turned", 5, 8, seed=1, names=opened.names)
    table = patch_pairs(opened, pairs)
    resid = table[table["component"] == "residual"].set_index(["layer", "role"])["effect"]
    last = opened.hooked.info.n_layers
    assert resid[last, "mark"] == pytest.approx(1, abs=1e-3)  # a random model differs little
    assert (resid[0].drop(["asked cause", "asked effect"]) == 0).all()
    assert (resid[last].drop("mark") == 0).all()
    assert set(table["pairs"]) == {8}


def test_a_head_cut_alone_is_the_masked_forward(tmp_path):
    opened = open_folder(made(tmp_path, replace(SHAPE, layers=1, heads=1)))
    asked = evaluation_set(Cell("sequential", 5), number=8, names=opened.names)
    layout = layout_of(asked, 1)
    tokens = token_rows(asked, opened.asked.known)
    replay = Replay(opened.hooked, tokens, opened.margin)
    for kind in relations(asked, layout):
        if kind.query != "stop" or not kind.targets.any():
            continue
        found = _cut(replay, 0, kind, layout)
        for row in range(len(asked)):
            query, sentence = kind.targets[row].nonzero().unbind(-1)
            edges = [
                (q, key) for q, s in zip(query.tolist(), sentence.tolist(), strict=True) for key in _keys(layout, s)
            ]
            wanted = opened.margin(opened.hooked.logits(tokens[row : row + 1], cut=frozenset(edges)))
            torch.testing.assert_close(found[:, row], wanted, atol=1e-5, rtol=0)


def _keys(layout, sentence):
    return range(sentence * layout.sentence_tokens, (sentence + 1) * layout.sentence_tokens)


def test_a_planted_head_is_found(tmp_path):
    def plant(model):  # head 0 of layer 0: queries and keys are the same projection of the token, so equal names match
        weight = model.transformer.h[0].attn.c_attn.weight
        width, d_head = weight.shape[0], weight.shape[0] // 2
        weight[:, :d_head] = weight[:, width : width + d_head] = torch.eye(width)[:, :d_head] * 3

    opened = open_folder(made(tmp_path, SHAPE, plant))
    asked = evaluation_set(Cell("shuffled", 5), number=40, names=opened.names)
    table = edge_heads(opened, asked, name="shuffled", cut=8)
    mine = table[(table["query"] == "asked cause")].set_index(["layer", "head", "target"])
    for both in (
        (mine["share"] - mine["base_rate"]).groupby(["layer", "head"]).sum(),
        mine["excess"].groupby(level=[0, 1]).sum(),
    ):
        assert both.idxmax() == (0, 0)
        assert both[0, 0] > 0.2
        assert both.drop((0, 0)).abs().max() < 0.15


def test_nothing_ablated_is_faithful_and_everything_is_not(opened, questions):
    made = ablated(opened, questions)
    parts = all_parts(made)
    torch.testing.assert_close(margins_of(made, [parts])[0], made.margins())
    assert float(margins_of(made, [[]])[0].abs().std()) < 1e-5  # the same output for every prompt
    found = eliminate(made)
    assert sorted(map(str, found.order)) == sorted(map(str, parts))
    assert found.after[-1] == pytest.approx(0, abs=1e-6)
    alone = margins_of(made, [[p for p in parts if p is not parts[0]]]).mean()
    full, empty = margins_of(made, [parts, []]).mean(1)
    assert found.alone[parts[0]] == pytest.approx(float((full - alone) / (full - empty)), abs=1e-6)
    table = faithfulness({"designed": made}, found.circuit, seed=0).set_index("circuit")["faithfulness"]
    assert table["full"] == 1
    assert table["empty"] == 0
    assert table["found"] >= 0.9


def test_knocked_neurons_are_at_their_means_where_they_are_of_the_class(opened, questions):
    made = ablated(opened, questions)
    table, rate = neuron_table(made, seed=0)
    assert len(table) == 2 * 2 * 32
    assert (rate["threshold"] >= rate["mean_highest"]).all()
    table["class"] = np.where(table["role"] == "mark", "reachable", "none")

    def edit(part, layer, value):
        if part == "z":
            return None
        value = value.clone()
        value[:, -1] = made.means.post[layer][-1]
        return value

    found = knockouts({"designed": made}, table, seed=0).set_index("class")
    wanted = float((made.margins(edit=edit) > 0).double().mean())
    assert found.loc["reachable", ["accuracy", "random", "neurons"]].tolist() == [wanted, wanted, 64]
    lost = (made.margins() - made.margins(edit=edit)).mean() / made.margins().mean()
    assert found.loc["reachable", "lost"] == pytest.approx(float(lost))
    assert (found.loc["mention order", ["accuracy", "random"]] == found["clean"].iloc[0]).all()
    assert not found.loc["mention order", ["neurons", "lost", "random_lost"]].any()


def test_the_premise_does_not_tell_the_answer(opened):
    table = reach_probes(opened, designed_set(5, 160, seed=0, names=opened.names), seed=0)
    whole = table[table["distance"] == 0].set_index(["layer", "role"])
    assert set(whole["train"] + whole["test"]) == {160}
    control = whole.xs("last stop", level="role")
    assert (control["low"] < 0.5).all()
    assert (whole.loc[0].drop("last stop")["accuracy"] < 0.75).all()
    assert ((whole["shuffled"] > 0.4) & (whole["shuffled"] < 0.6)).all()


def test_a_walk_ends_with_the_model_s_margin(opened, questions):
    found = walk(opened, questions[0], all_parts(ablated(opened, questions)))
    assert " ".join(found["walk_tokens"]["token"]).endswith(f"Does {questions[0].cause} cause {questions[0].effect} ?")
    end = found["walk_margins"].query("role == 'mark'").iloc[-1]
    wanted = opened.margin(opened.hooked.logits(token_rows(questions[:1], opened.asked.known)))
    assert end["margin"] == pytest.approx(float(wanted[0]), abs=1e-5)
    mass = found["walk_attention"].groupby(["layer", "head", "query"])["attention"].sum()
    assert (mass <= 1 + 1e-5).all()
    assert (mass > 0.5).all()


def test_bad_requests_are_refused(folder, tmp_path):
    with pytest.raises(RequestError, match="31 questions: use an even number"):
        open_up(folder, tmp_path / "out", questions=31)
    with pytest.raises(ModelError, match="holds no model"):
        open_up(tmp_path, tmp_path / "out")


def test_both_models_are_checked_before_any_work(folder, tmp_path):
    none = tmp_path / "none"
    for name, odd, match in (
        ("cut", "model.safetensors", "holds damaged weights"),
        ("words", "tokenizer.json", "has another vocabulary"),
    ):
        other = shutil.copytree(folder, tmp_path / name / "step1")
        file = other / odd
        file.write_bytes(file.read_bytes()[:-40] if name == "cut" else file.read_bytes().replace(b"causes", b"casues"))
        with pytest.raises(ModelError, match=match) as caught:
            compare(folder, other, none, progress=lambda *_: pytest.fail("work has begun"))
        assert "\n" not in str(caught.value)
        with pytest.raises(ModelError, match=match):
            open_up(other, tmp_path / "alone" / name)
        assert not none.exists()
    short = made(tmp_path / "short", replace(SHAPE, chain_lengths=(2, 2), curriculum_from=2))
    with pytest.raises(RequestError, match="learned chains of 2 nodes"):
        compare(folder, short, none, progress=lambda *_: pytest.fail("work has begun"))


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    out, told = tmp_path_factory.mktemp("opened") / "run", []
    return open_up(folder, out, questions=40, progress=lambda *event: told.append(event)), told


@pytest.mark.slow
def test_a_run_makes_all_tables_and_none_twice(folder, run):
    done, told = run
    assert [name for name, _, _ in told] == [*(stage.name for stage in STAGES), ""]
    assert set(done.tables()) == {name for stage in STAGES for name in stage.makes}
    words = {"rule", "rule in part", "trained kind only", "shortcut in part", "shortcut", "nothing learned"}
    assert done.table("verdict")["claim"].iloc[-1] in words
    again = []
    open_up(folder, done.path, questions=40, progress=lambda *event: again.append(event))
    assert again == [("", len(STAGES), len(STAGES))]
    with pytest.raises(RunConflictError, match="seed"):
        open_up(folder, done.path, questions=40, seed=1)
    version = done.manifest["stages"]["verdict"].pop("version")  # as an older version of the code has left it
    assert version == 2
    done.note("note", "")
    open_up(folder, done.path, questions=40, progress=lambda *event: again.append(event))
    assert [name for name, _, _ in again[1:]] == ["verdict", ""]
    again = again[:1]
    before = {name: done.table(name) for name in done.tables()}
    (done.path / "circuit.parquet").unlink()

    def stop(stage, *_):
        if stage == "faithfulness":
            raise Stopped

    with pytest.raises(Stopped):
        open_up(folder, done.path, questions=40, progress=stop)
    open_up(folder, done.path, questions=40, progress=lambda *event: again.append(event))
    assert [name for name, _, _ in again[1:]] == ["faithfulness", "walk", ""]  # of the circuit that was made anew
    for name, table in before.items():
        now = done.table(name)
        numbers = table.select_dtypes("number").astype(float)
        np.testing.assert_allclose(now.select_dtypes("number").astype(float), numbers, atol=1e-6)


@pytest.mark.slow
def test_two_models_side_by_side(folder, run, tmp_path):
    learned = made(tmp_path / "learned", replace(SHAPE, position_kind="learned"))
    shutil.copytree(run[0].path, tmp_path / "both/none")  # found there, not made again
    told = []
    found = compare(folder, learned, tmp_path / "both", questions=40, progress=lambda *event: told.append(event[0]))
    assert told[0] == "none"
    assert told[1:3] == ["learned patching", "learned edge_heads"]
    table = found.table("comparison")
    assert {"accuracy", "circuit heads", "verdict"} <= set(table["measure"])
    one = run[0].table("generalisation").set_index("questions")["accuracy"]
    mine = table[table["measure"] == "accuracy"].set_index("questions")["none"]
    assert mine.to_dict() == one.to_dict()
    assert table["text_learned"].iloc[-1]
