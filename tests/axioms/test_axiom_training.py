"""Whole runs of a tiny model on an axiom: folders, resume, measured numbers, recipes and bad requests."""

import json
from dataclasses import replace

import pytest
import torch
from axioms.tiny_axiom import TINY_AXIOM
from safetensors.torch import load_file, save_file

from arithcirc.axioms.asking import AxiomModel, ask, last_logits, open_model
from arithcirc.axioms.course import AxiomCourse, names_of
from arithcirc.axioms.evaluation import Cell, evaluation_set
from arithcirc.axioms.exam import exam_cells, make_exam
from arithcirc.axioms.recipe import AXIOM_PRESETS, AxiomRecipe, load_axiom_recipe, question_tokens
from arithcirc.axioms.text import write
from arithcirc.axioms.tokenizer import build_core, vocabulary
from arithcirc.axioms.train import train_axiom
from arithcirc.errors import ModelError, NumericsError, RequestError, RunConflictError
from arithcirc.models.load import load
from arithcirc.training.positions import POSITION_KINDS
from arithcirc.training.tokenizer import save_tokenizer as save_arithmetic_tokenizer


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out, events = tmp_path_factory.mktemp("run") / "tiny", []
    return train_axiom(TINY_AXIOM, out, device="cpu", threads=1, report=events.append), events


class Stopped(Exception):
    """What a test kills a run with."""


def test_a_stopped_run_resumes_to_the_same_weights(run, tmp_path):
    def stop(event):
        if event.step == 8 and event.accuracies:
            raise Stopped

    with pytest.raises(Stopped):
        train_axiom(TINY_AXIOM, tmp_path / "run", device="cpu", threads=1, report=stop)
    assert [p.name for p in (tmp_path / "run/.work").glob("checkpoint-*")] == ["checkpoint-6"]
    torch.randn(100)  # dropout must not depend on what this process drew since
    events = []
    resumed = train_axiom(TINY_AXIOM, tmp_path / "run", device="cpu", threads=1, report=events.append)
    assert [e.step for e in events if e.accuracies] == [8, 16]
    one, two = (load_file(r.final / "model.safetensors") for r in (resumed, run[0]))
    assert all(torch.equal(one[name], two[name]) for name in two)
    assert resumed.accuracies == run[0].accuracies


def test_a_run_leaves_plain_folders_and_a_card(run):
    done, events = run
    names = {p.relative_to(done.folder).as_posix() for p in done.folder.rglob("*") if p.is_file()}
    files = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    steps = {f"step{s}/{f}" for s in (0, 8, 16) for f in files}
    assert names == steps | {"recipe.json", "accuracy.json", "card.json", "README.md"}
    assert load_axiom_recipe(done.folder) == TINY_AXIOM
    card = json.loads((done.folder / "card.json").read_text(encoding="utf-8"))
    assert card["final"] == {row.cell: row.value for row in done.accuracies if row.step == 16}
    assert str(done.folder) not in (done.folder / "README.md").read_text(encoding="utf-8")
    assert [e.step for e in events if e.accuracies] == [0, 8, 16]
    with pytest.raises(RunConflictError, match="mix: TS1 here, TS2 there"):
        train_axiom(replace(TINY_AXIOM, mix="TS1"), done.folder)


def test_fixed_positions_stay_and_the_rest_moves(run):
    first, last = (load_file(run[0].folder / f"step{s}/model.safetensors") for s in (0, 16))
    still = [name for name in first if torch.equal(first[name], last[name])]
    assert still == ["transformer.wpe.weight"]
    assert not last["transformer.wpe.weight"].any()


def test_grades_are_those_of_the_weights_on_disk(run):
    done, _ = run
    again = make_exam(TINY_AXIOM, names_of(TINY_AXIOM)).measure(done.final, 16)
    assert again == tuple(row for row in done.accuracies if row.step == 16)
    assert [row.cell for row in again] == ["sequential-04", "flipped-04", "reversal-04", "sequential-09"]


def test_the_wrapped_model_answers_as_ours(run):
    loaded, ours = load(str(run[0].final), device="cpu"), open_model(run[0].final)
    questions = evaluation_set(Cell("flipped", 5), number=6, names=names_of(TINY_AXIOM))
    ids = [loaded.tokenizer(write(q), add_special_tokens=False)["input_ids"] for q in questions]
    assert torch.allclose(loaded.logits(torch.tensor(ids)), last_logits(ours, ids), atol=1e-5)
    assert loaded.info.d_vocab == 70


def test_answers_do_not_depend_on_the_batch(run):
    model, names = open_model(run[0].final), names_of(TINY_AXIOM)
    questions = [q for n in (6, 3, 5) for q in evaluation_set(Cell("flipped", n), number=6, names=names)]
    told = []
    whole, single = ask(model, questions, progress=told.append), ask(model, questions, batch_tokens=1)
    assert (whole.said == single.said).all()
    assert whole.margin == pytest.approx(single.margin, abs=1e-5)
    assert sum(told) == len(questions) == len(whole)
    known, core = vocabulary(), build_core()
    for q, said, right in zip(questions, whole.said, whole.right, strict=True):
        logits = last_logits(model, [core.encode(write(q)).ids])
        assert int(logits.argmax()) == said
        assert right == (said == known["Yes" if q.label else "No"])


@pytest.mark.parametrize("kind", POSITION_KINDS)
def test_questions_longer_than_the_table(kind):
    recipe = replace(TINY_AXIOM, position_kind=kind, positions=question_tokens(4, 1))
    model = AxiomModel(AxiomCourse(recipe).model().eval(), vocabulary())
    questions = evaluation_set(Cell("sequential", 9), number=4, names=names_of(recipe))
    assert [cell.name for cell in exam_cells(recipe)][-1] == "reversal-04"
    if kind in ("learned", "sinusoidal"):
        with pytest.raises(RequestError, match=f"37 tokens and this model has {kind} positions for 17") as caught:
            ask(model, questions)
        assert "\n" not in str(caught.value)
    else:
        larger = replace(recipe, positions=200)
        same = AxiomCourse(larger).model().eval()
        same.load_state_dict({k: v for k, v in model.network.state_dict().items() if "wpe" not in k}, strict=False)
        assert ask(model, questions).margin == pytest.approx(ask(AxiomModel(same, vocabulary()), questions).margin)


def test_folders_of_other_models_are_refused(run, tmp_path, toy_folder):
    with pytest.raises(ModelError, match="no model"):
        open_model(tmp_path)
    with pytest.raises(ModelError, match="another vocabulary"):
        open_model(toy_folder)
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for path in run[0].final.iterdir():
        (mixed / path.name).write_bytes(path.read_bytes())
    AxiomCourse(replace(TINY_AXIOM, vocab=69)).save_tokenizer(mixed)
    with pytest.raises(ModelError, match="a model of 70 tokens beside a tokenizer of 69"):
        open_model(mixed)
    save_arithmetic_tokenizer(40, mixed)
    with pytest.raises(ModelError, match="another vocabulary"):
        open_model(mixed)


def test_logits_that_are_not_finite_are_one_line(run, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in run[0].final.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    weights = load_file(broken / "model.safetensors")
    weights["lm_head.weight"][3] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NumericsError, match="not finite"):
        ask(open_model(broken), evaluation_set(Cell("reversal", 4), number=2))


@pytest.mark.parametrize("preset", AXIOM_PRESETS)
def test_recipes_are_told_as_json_and_back(preset):
    recipe = AXIOM_PRESETS[preset]
    assert AxiomRecipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    assert load_axiom_recipe(preset) == recipe


def test_the_paper_preset_is_the_papers():
    recipe = AXIOM_PRESETS["paper"]
    assert recipe.steps * recipe.questions_per_step == pytest.approx(17_500_000, abs=128)
    assert (recipe.layers, recipe.heads, recipe.width, recipe.mlp_width) == (12, 8, 512, 2048)
    assert (recipe.gradient_clip, recipe.weight_decay, recipe.warmup_steps) == (0, 0, 0)
    with torch.device("meta"):
        model = AxiomCourse(replace(recipe, position_kind="learned", positions=49)).model()
    blocks = 12 * (12 * 512**2 + 13 * 512) + 2 * 512
    assert sum(p.numel() for p in model.parameters()) == blocks + (2 * 70 + 49) * 512


def test_a_shortened_recipe_keeps_its_curriculums_share():
    recipe = AXIOM_PRESETS["small"]
    short = recipe.shortened(recipe.steps // 10)
    assert short.curriculum_steps == recipe.curriculum_steps // 10
    assert short.longest_chain(short.steps - 1) == 6
    assert short.shortened(recipe.steps).curriculum_steps == short.curriculum_steps


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mix": "TS9"}, "mix is 'TS9': it must be one of TS1, TS2, OCC"),
        ({"position_kind": "alibi"}, "position_kind is 'alibi': it must be one of none"),
        ({"position_kind": "learned", "positions": 10}, "positions is 10: it must be at least 25"),
        ({"questions_per_graph": 3}, "1 or an even number"),
        ({"chain_lengths": (1, 6)}, "two numbers from 2"),
        ({"chain_lengths": (6, 3)}, "ascending"),
        ({"name_lengths": (0, 3)}, "two numbers from 1"),
        ({"curriculum_from": 7}, "between 2 and 6"),
        ({"examples": 100}, "curriculum_steps"),
        ({"gradient_clip": -1.0}, "gradient_clip is -1.0"),
        ({"dropout": 1.0}, "below 1"),
        ({"width": 63}, "a divisor of width 63"),
        ({"vocab": 71}, "69 or 70"),
        ({"chain_lengths": (3, 63)}, "63 names are asked"),
        ({"adam_epsilon": 0.0}, "a positive number"),
        ({"exam_questions": 7}, "an even number"),
    ],
)
def test_recipes_that_cannot_be_used(changes, message):
    with pytest.raises(RequestError, match=message) as caught:
        AxiomRecipe(**changes)
    assert "\n" not in str(caught.value)


def test_recipe_files_that_cannot_be_read(tmp_path):
    for text, message in (("[]", "not a JSON object"), ("{", "cannot be read"), ('{"mox": "TS2"}', "no field 'mox'")):
        (tmp_path / "recipe.json").write_text(text, encoding="utf-8")
        with pytest.raises(RequestError, match=message):
            load_axiom_recipe(tmp_path)
    with pytest.raises(RequestError, match="no recipe 'large': use small or paper"):
        load_axiom_recipe("large")
