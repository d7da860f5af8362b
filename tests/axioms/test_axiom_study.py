"""A whole study of tiny models: its tables against asking by hand, what is reused, repeated, refused and left out."""

import multiprocessing
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from axioms.tiny_axiom import TINY_AXIOM
from safetensors.torch import load_file, save_file

from arithcirc.axioms.asking import ask, open_model
from arithcirc.axioms.shortcuts import SHORTCUTS, score
from arithcirc.axioms.study import jobs, workers
from arithcirc.axioms.study.answers import CELLS, HOPS, WHO
from arithcirc.axioms.study.jobs import read_curve
from arithcirc.axioms.study.plan import make_plan
from arithcirc.axioms.study.questions import Evaluation, prompt_tokens, question_sets
from arithcirc.axioms.study.single import evaluate_folder
from arithcirc.axioms.study.study import Request, open_study, run_study
from arithcirc.axioms.study.tables import TABLES
from arithcirc.axioms.text import parse, write
from arithcirc.axioms.tokenizer import build_core, encode, vocabulary
from arithcirc.cli import axioms as command
from arithcirc.errors import ModelError, NumericsError, PromptError, RequestError, RunConflictError, SweepIncomplete

RECIPE = replace(
    TINY_AXIOM, steps=4, curriculum_steps=2, warmup_steps=1, measure_every=2, exam_questions=4, positions=64
)
ASKED = Evaluation(families=("sequential", "reversal", "names", "branching"), longest=8, questions=20)
REQUEST = Request(RECIPE, ("TS2",), ("none", "learned"), (0,), ASKED, reseeds=1, device="cpu")


class Heard(list):
    """Notices, and what was told."""

    def tell(self, what, done, total):
        self.append((what, done, total))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out, notices = tmp_path_factory.mktemp("study"), []
    run = run_study(open_study(REQUEST, out), notice=notices.append)
    return out, run, notices


def test_the_tables_are_there_with_their_columns(done):
    _, run, _ = done
    assert set(run.tables()) == set(TABLES)
    cells, hops = run.table("cells"), run.table("hops")
    assert list(cells) == [*WHO, *CELLS]
    assert list(hops) == [*WHO, *HOPS]
    assert set(cells["model"]) == {f"TS2-{k}-s{s}" for k in ("none", "learned") for s in (0, 1000)} | set(SHORTCUTS)
    assert (cells["questions"] == 20).all()
    assert (cells["graphs"] == 20).all()
    assert ((cells["low"] <= cells["accuracy"]) & (cells["accuracy"] <= cells["high"])).all()
    total = hops.assign(right=hops["accuracy"] * hops["questions"]).groupby(["model", "family", "nodes", "factor"],
                                                                           dropna=False)["right"].sum()  # fmt: skip
    plain = cells.set_index(["model", "family", "nodes", "factor"])["accuracy"] * 20
    assert total.sort_index().to_numpy() == pytest.approx(plain.sort_index().to_numpy())
    assert (hops["hops"].eq(0) == hops["hops"].lt(1)).all()


def test_cells_are_what_asking_each_set_alone_gives(done):
    out, run, _ = done
    cells = run.table("cells")
    model = open_model(out / "models/TS2-none-s1000/step4")
    rows = cells[cells["model"] == "TS2-none-s1000"]
    for (cell, questions), row in zip(question_sets(ASKED), rows.to_dict("records"), strict=True):
        answers = ask(model, questions)
        assert (row["family"], row["nodes"]) == (cell.family, cell.nodes)
        assert row["accuracy"] == pytest.approx(answers.accuracy)
        yes = np.isin(answers.said, [model.known["Yes"]])
        assert row["said_yes"] == pytest.approx(yes.mean())
        hard = [q for q in questions if q.hops >= 2]
        right = dict(zip(questions, answers.right, strict=True))
        if hard:
            balanced = np.mean([right[q] for q in hard]) / 2 + np.mean([right[q] for q in questions if not q.label]) / 2
            assert row["hard"] == pytest.approx(balanced)


def test_shortcuts_answer_the_same_questions(done):
    _, run, _ = done
    cells = run.table("cells")
    for name, guess in SHORTCUTS.items():
        rows = cells[cells["model"] == name]
        assert rows["seed"].isna().all()
        for (_, questions), row in zip(question_sets(ASKED), rows.to_dict("records"), strict=True):
            assert row["accuracy"] == score(questions, [guess(q) for q in questions]).accuracy.value
    order = cells[(cells["model"] == "mention order") & (cells["family"] == "sequential")]
    assert (order["accuracy"] == 1).all()


def test_a_folder_with_fewer_shortcuts_gains_the_rest(done, tmp_path):
    shutil.copytree(done[0], tmp_path / "out")
    study = open_study(REQUEST, tmp_path / "out")
    files = [f"parts/shortcuts.{name}" for name in ("cells", "hops")]
    old = {name: study.run.table(name) for name in files}
    kept = [study.run.write_table(name, table[table["model"] != "end roles"]) for name, table in old.items()]
    study.run.finish("shortcuts", kept)
    models = {name: study.run.manifest["stages"][name] for name in study.run.manifest["stages"] if "model/" in name}
    run = run_study(open_study(REQUEST, tmp_path / "out"))
    for name, table in old.items():
        pd.testing.assert_frame_equal(run.table(name), table)
    for name in ("cells", "hops"):
        pd.testing.assert_frame_equal(run.table(name), done[1].table(name))
    assert {name: run.manifest["stages"][name] for name in models} == models  # none was asked again
    assert (run.table("hops").query("model == 'end roles' and hops > 0")["accuracy"] == 1).all()


def test_a_training_that_failed_is_repeated_and_both_are_told(done):
    _, run, notices = done
    models = run.table("models").set_index("model")
    assert list(models["counted"]) == [False, True] * 2
    assert list(models["seed"]) == [0, 1000] * 2
    assert (models["asked_seed"] == 0).all()
    assert (models["learned"] < 0.97).all()
    said = [text for text in notices if "repeated with seed 1000" in text]
    assert len(said) == 2
    cells, bars = run.table("cells"), run.table("bars").set_index("bar")
    counted = cells[cells["counted"] & (cells["model"] == "TS2-none-s1000")]
    six = counted[(counted["family"] == "sequential") & (counted["nodes"] == 6)]["accuracy"].item()
    bar = bars.loc["TS2 none, sequential 6"]
    assert bar["measured"] == six
    assert (bar["seeds"], list(bar["values"]), list(bar["asked_seeds"])) == (1, [six], [0])
    assert not bar["demanded"]
    assert bars["measured"].isna()["OCC none, reversal 6"]
    assert bars["holds"].isna()["TS2 none, sequential 11, 13, 15"]


def test_sets_beyond_the_positions_are_left_out_and_said(done):
    _, run, notices = done
    models = run.table("models").set_index("model")
    assert not len(models.loc["TS2-none-s0", "left_out"])
    left = set(models.loc["TS2-learned-s0", "left_out"])
    longest = {cell.name: max(map(prompt_tokens, questions)) for cell, questions in question_sets(ASKED)}
    assert left == {name for name, tokens in longest.items() if tokens > 64} != set()
    assert any("TS2-learned-s0: no positions for names-03" in text for text in notices)
    cells = run.table("cells").groupby("model").size()
    assert cells["TS2-learned-s0"] == cells["TS2-none-s0"] - len(left)


def test_lengths_are_those_of_the_tokenizer():
    core = build_core()
    for _, questions in question_sets(ASKED):
        assert prompt_tokens(questions[0]) == len(encode(core, write(questions[0])))


def test_training_has_losses_and_exams(done):
    out, run, _ = done
    table = run.table("training")
    rows = table[table["model"] == "TS2-none-s0"]
    assert set(rows["step"]) == {0, 2, 4}
    assert rows.loc[rows["part"] == "loss", "loss"].item() == read_curve(out / "models/TS2-none-s0")[-1]["loss"]
    exams = rows[rows["part"] != "loss"]
    assert exams["accuracy"].between(0, 1).all()
    assert exams["seconds"].notna().all()


def test_what_is_there_is_reused_and_what_changed_is_asked_again(done):
    out, run, _ = done
    heard = Heard()
    before = {name: (run.path / f"{name}.parquet").read_bytes() for name in TABLES}
    study = open_study(REQUEST, out)
    assert study.left() == []
    assert make_plan(study).left == ()
    run_study(study, tell=heard.tell)
    assert heard == []
    assert before == {name: (run.path / f"{name}.parquet").read_bytes() for name in TABLES}
    weights = out / "models/TS2-none-s1000/step4/model.safetensors"
    kept = weights.read_bytes()
    values = load_file(weights)
    values["lm_head.weight"][vocabulary()["Yes"]] += 10 * values["transformer.ln_f.bias"].sign() + 5
    save_file(values, weights, metadata={"format": "pt"})
    assert [job.name for job in open_study(REQUEST, out).left()] == ["TS2-none-s1000"]
    weights.write_bytes(kept)


def test_a_study_grows_and_refuses_what_is_not_its_own(done):
    out, _, _ = done
    more = open_study(replace(REQUEST, mixes=("ts2", "occ"), positions=("none",)), out, write=False)
    assert [job.name for job in more.left()] == ["OCC-none-s0"]
    planned = make_plan(more, workers=2)
    assert [(model.name, model.done) for model in planned.models] == [("TS2-none-s0", True), ("OCC-none-s0", False)]
    assert planned.seconds == planned.left[0].seconds > 0
    with pytest.raises(RunConflictError, match="evaluation: questions: 20 in the folder, 22 asked"):
        open_study(replace(REQUEST, evaluation=replace(ASKED, questions=22)), out)
    with pytest.raises(RunConflictError, match="recipe: learning_rate"):
        open_study(replace(REQUEST, recipe=replace(RECIPE, learning_rate=1e-4)), out)


def test_models_of_another_recipe_are_refused(done, tmp_path):
    out, _, _ = done
    (tmp_path / "models").symlink_to(out / "models")
    with pytest.raises(RunConflictError, match=r"TS2-none-s0 was trained by another recipe .steps: 6 here, 4 there"):
        open_study(replace(REQUEST, recipe=RECIPE.shortened(6)), tmp_path)


def test_one_that_fails_does_not_stop_the_others(done, tmp_path, monkeypatch):
    out, _, _ = done

    def do(job, tell):
        if job.recipe.position_kind == "none":
            raise NumericsError("the loss is nan")
        return jobs.do(replace(job, folder=out / "models" / job.name), tell)

    monkeypatch.setattr(workers, "do", do)
    study = open_study(replace(REQUEST, reseeds=0), tmp_path)
    with pytest.raises(SweepIncomplete, match=r"1 model.s. of the study failed, first TS2-none-s0: the loss is nan"):
        run_study(replace(study, out=tmp_path), notice=[].append)
    assert set(study.run.table("models")["model"]) == {"TS2-learned-s0"}
    assert study.run.table("bars")["measured"].isna().sum() > 5


def test_any_model_is_asked_without_a_study(done, tmp_path, toy_folder):
    out, run, _ = done
    folder = out / "models/TS2-learned-s0"
    alone = evaluate_folder(folder, tmp_path / "one", evaluation=ASKED)
    cells, study = alone.table("cells"), run.table("cells")
    mine, its = cells[cells["kind"] == "model"], study[study["model"] == "TS2-learned-s0"]
    pd.testing.assert_frame_equal(mine[list(CELLS)].reset_index(drop=True), its[list(CELLS)].reset_index(drop=True))
    assert set(mine["model"]) == {"TS2-learned-s0-step4"}
    told = []
    again = evaluate_folder(folder / "step4", tmp_path / "one", evaluation=ASKED, progress=lambda *s: told.append(s))
    assert (again.path, told) == (alone.path, [])
    again.finish("cells", [again.write_table("cells", cells[cells["model"] != "end roles"])])  # of fewer shortcuts
    again = evaluate_folder(folder / "step4", tmp_path / "one", evaluation=ASKED)
    pd.testing.assert_frame_equal(again.table("cells"), cells)
    with pytest.raises(RunConflictError, match="weights"):
        evaluate_folder(out / "models/TS2-none-s0", tmp_path / "one", evaluation=ASKED)
    with pytest.raises(ModelError, match="holds no trained model"):
        evaluate_folder(tmp_path, tmp_path / "two", evaluation=ASKED)
    with pytest.raises(ModelError, match="another vocabulary"):
        evaluate_folder(toy_folder, tmp_path / "two", evaluation=ASKED)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": ("none", "alibi")}, "--positions has 'alibi'"),
        ({"mixes": ("TS2", "ts2")}, "each once"),
        ({"mixes": ("TS7",)}, "unknown mix 'TS7'"),
        ({"seeds": ()}, "--seeds ''"),
        ({"seeds": (1000,)}, "higher ones are of repetitions"),
        ({"reseeds": -1}, "negative"),
        ({"evaluation": Evaluation(name_lengths=(1, 3))}, "other names than the training"),
    ],
)
def test_requests_that_cannot_be_met(changes, message):
    with pytest.raises(RequestError, match=message) as caught:
        replace(REQUEST, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"questions": 5}, "half Yes and half No"),
        ({"families": ()}, "no evaluation set"),
        ({"families": ("stars",)}, "unknown family"),
        ({"longest": 2}, "no evaluation set"),
    ],
)
def test_questions_that_cannot_be_asked(changes, message):
    with pytest.raises(RequestError, match=message):
        Evaluation(**changes)


def test_the_command_plans_without_writing_and_asks_a_model(done, tmp_path, capsys):
    out, _, _ = done
    recipe = str(out / "models/TS2-none-s0")
    words = ["--preset", recipe, "--positions", "none", "--out", str(tmp_path / "new"), "--plan-only"]
    command.app(["study", *words, "--questions", "4", "--longest", "6", "--workers", "1"], result_action="return_value")
    command.app(["train", *words], result_action="return_value")
    assert not (tmp_path / "new").exists()
    said = capsys.readouterr()
    assert "TS2-none-s0" in said.err
    assert "4 steps, 128 questions" in said.out
    asked = ["--evaluate", recipe, "--questions", "4", "--longest", "6", "--out", str(tmp_path / "one")]
    command.app(["study", *asked], result_action="return_value")
    assert "mention order" in capsys.readouterr().out


def test_questions_of_ones_own_are_answered_beside_the_truth_and_the_shortcuts(done, capsys):
    out, _, _ = done
    folder = out / "models/TS2-none-s0"
    texts = ["B causes A. C causes B. Does C cause A?", "a causes b. c causes b. Does a cause c?"]
    command.app(["ask", str(folder), *texts], result_action="return_value")
    first, second = capsys.readouterr().out.splitlines()[1:]
    answers = ask(open_model(folder / "step4"), [parse(text) for text in texts])
    for line, text, margin in zip((first, second), texts, answers.margin, strict=True):
        assert line.startswith(text)
        assert f"{margin:+.2f}" in line
    assert first.split()[-5:] == ["2", "hop(s)", "No", "No", "Yes"]
    assert second.split()[-4:] == ["No", "Yes", "No", "No"]
    for odd, match in (
        ((), "no question is given: write one"),
        (("A causes B. B causes A. Does A cause B?",), "cycl"),
        (("A makes B. Does A cause B?",), "write 'A causes B.'"),
    ):
        with pytest.raises((RequestError, PromptError), match=match) as caught:
            command.ask(folder, *odd)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_processes_give_what_one_gives_though_one_is_killed(done, tmp_path):
    _, run, _ = done
    notices, heard = [], Heard()

    def kill(what, done, total):
        if not heard:
            multiprocessing.active_children()[0].kill()
        heard.tell(what, done, total)

    with pytest.raises(SweepIncomplete, match=r"1 model.s. of the study failed.* was killed .SIGKILL"):
        run_study(open_study(REQUEST, tmp_path), workers=2, tell=kill, notice=notices.append)
    assert len([text for text in notices if "was killed" in text]) == 1
    assert not multiprocessing.active_children()
    again = run_study(open_study(REQUEST, tmp_path), workers=2, tell=heard.tell)
    for name, columns in (("cells", [*WHO[:1], *CELLS[:3]]), ("hops", [*WHO[:1], *HOPS[:4]])):
        pd.testing.assert_frame_equal(
            *(table.table(name).sort_values(columns, ignore_index=True) for table in (again, run))
        )
    assert {what for what, _, _ in heard} >= {"TS2-none-s0", "TS2-none-s0 asked", "TS2-learned-s1000"}
