"""What people type becomes checkpoints in the order of training."""

import pytest

from arithcirc.errors import ModelError, RequestError
from arithcirc.models.zoo import PYTHIA_STEPS
from arithcirc.sweep.revisions import all_checkpoints, checkpoints, step_of

PYTHIA = "EleutherAI/pythia-70m"


@pytest.fixture
def trained(tmp_path):
    """A model with four step folders and things that are none."""
    for name in ("step0", "step512", "step1000", "step4000", "logs", "step9.part"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        (tmp_path / "mine" / name / "config.json").touch()
    return tmp_path / "mine"


def names(model, text=None):
    return [r.revision for r in checkpoints(str(model), text).revisions]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, ["step0", "step512", "step1000", "step4000"]),
        ("all", ["step0", "step512", "step1000", "step4000"]),
        ("step512", ["step512"]),
        ("4000,512, step512", ["step512", "step4000"]),
        ("step1..step1000", ["step512", "step1000"]),
        ("0..4000/4000", ["step0", "step4000"]),
        ("step1000..step1000,0", ["step0", "step1000"]),
        ("step1000..step1000/7", ["step1000"]),
        ("step512..step1000/9999", ["step512", "step1000"]),
    ],
)
def test_step_folders(trained, text, found):
    assert names(trained, text) == found


def test_a_model_is_called_by_its_folder_wherever_it_is_named_from(trained, monkeypatch):
    monkeypatch.chdir(trained.parent)
    near, far = checkpoints("mine"), checkpoints(str(trained))
    assert near == far
    assert (far.model, far.name, far.local) == (str(trained), "mine", True)
    assert [r.step for r in far.revisions] == [0, 512, 1000, 4000]


def test_a_step_folder_is_one_checkpoint_of_its_model(trained):
    found = checkpoints(str(trained / "step512"))
    assert (found.model, found.name, [r.revision for r in found.revisions]) == (str(trained), "mine", ["step512"])
    with pytest.raises(ModelError, match="no revision 'step0'"):
        checkpoints(str(trained / "step512"), "step0")


def test_a_folder_without_steps_is_one_checkpoint(trained):
    (trained / "config.json").touch()
    for folder in trained.glob("step*"):
        folder.rename(folder.with_name(f"old-{folder.name}"))
    assert [(r.revision, r.step) for r in checkpoints(str(trained)).revisions] == [("main", None)]


def test_the_shipped_model_is_the_default():
    found = checkpoints(None)
    assert found == checkpoints("neox-arith")
    assert (found.name, found.revisions[0].revision, found.revisions[-1].revision) == (
        "neox-arith",
        "step0",
        "step4000",
    )


def test_the_published_steps_of_pythia():
    assert [r.step for r in checkpoints(PYTHIA, "pythia").revisions] == list(PYTHIA_STEPS)
    assert names(PYTHIA, "all") == names(PYTHIA, "pythia") == names(f"{PYTHIA}-deduped", "pythia")
    tenth = checkpoints(PYTHIA, "pythia/10").revisions
    assert [r.step for r in tenth] == [*PYTHIA_STEPS[::10], PYTHIA_STEPS[-1]]
    assert names(PYTHIA, "step23000..step143000/10000") == [f"step{n}000" for n in range(23, 144, 10)]
    far = [f"step{n}000" for n in (1, 21, 41, 61, 81, 101, 121, 141, 143)]
    assert names(PYTHIA, "step1000..step143000/20000") == far
    assert names(PYTHIA, "step64..step2000") == ["step64", "step128", "step256", "step512", "step1000", "step2000"]
    assert names(PYTHIA, "main,143000,0") == ["step0", "step143000"]


def test_any_name_of_another_hub_model():
    found = checkpoints("allenai/OLMo-1B", "main,step20000-tokens84B,step1000-tokens4B").revisions
    assert [(r.revision, r.step) for r in found] == [
        ("step1000-tokens4B", 1000),
        ("step20000-tokens84B", 20000),
        ("main", None),
    ]
    assert names("gpt2") == ["main"]
    assert names("owner/other", "step10..step30/10") == ["step10", "step20", "step30"]


@pytest.mark.parametrize(("name", "step"), [("step12", 12), ("step12-x", 12), ("main", None), ("mystep3", None)])
def test_steps_are_read_off_names(name, step):
    assert step_of(name) == step


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("step600", "no revision 'step600': the nearest are step512 and step1000"),
        ("9000", "no revision '9000': the nearest is step4000 .it has step0, step512"),
        ("latest", "no revision 'latest': it has step0, step512, step1000, step4000"),
        ("step1..step3", "no revision in step1..step3: the nearest are step0 and step512"),
        ("step512..step0", "runs backwards"),
        ("step0..step512/0", "must be 1 or more"),
        ("step0..", "is not a range"),
        ("pythia", "is for the Pythia models"),
        (",", "names no revision"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(trained, text, words):
    with pytest.raises(RequestError, match=words):
        checkpoints(str(trained), text)


@pytest.mark.parametrize(
    ("model", "text", "words"),
    [
        (PYTHIA, None, "154 published checkpoints: say which with --revisions, as pythia/10"),
        (PYTHIA, "step1500", "nearest published ones are step1000 and step2000"),
        (PYTHIA, "step1000..step3000/500", "nearest published ones are step1000 and step2000"),
        (PYTHIA, "pythia/0", "every first or later"),
        ("gpt2", "all", "is not known here"),
        ("gpt2", "step1..step5", "give their distance"),
        ("gpt2", "pythia", "gpt2 is none"),
    ],
)
def test_hub_models_refuse_in_words(model, text, words):
    with pytest.raises(RequestError, match=words):
        checkpoints(model, text)


def test_several_models(trained):
    both = all_checkpoints([str(trained), "neox-arith"], "step512")
    assert [(c.name, len(c.revisions)) for c in both] == [("mine", 1), ("neox-arith", 1)]
    (merged,) = all_checkpoints([str(trained / "step4000"), str(trained / "step0")], None)
    assert [r.revision for r in merged.revisions] == ["step0", "step4000"]
    assert all_checkpoints([], None) == [checkpoints(None)]


def test_a_model_may_have_revisions_of_its_own(trained):
    found = all_checkpoints([str(trained), f"{PYTHIA}@pythia/100", "gpt2@main,step7"], "step512")
    assert [[r.revision for r in c.revisions] for c in found] == [
        ["step512"], ["step0", "step90000", "step143000"], ["step7", "main"],
    ]  # fmt: skip
    assert [c.model for c in found] == [str(trained), PYTHIA, "gpt2"]
    twice = all_checkpoints([f"{trained}@step0", f"{trained}@step4000"], None)
    assert [[r.revision for r in c.revisions] for c in twice] == [["step0", "step4000"]]


def test_a_folder_with_an_at_sign_is_a_folder(trained):
    odd = trained.rename(trained.parent / "mine@step0")
    assert [r.step for r in all_checkpoints([str(odd)], None)[0].revisions] == [0, 512, 1000, 4000]
    assert [r.step for r in all_checkpoints([f"{odd}@512"], None)[0].revisions] == [512]


@pytest.mark.parametrize("model", ["@main", "gpt2@"])
def test_half_a_model_with_revisions_is_refused(model):
    with pytest.raises(RequestError, match="write MODEL@REVISIONS"):
        all_checkpoints([model], None)


def test_two_models_of_one_name_are_refused(trained, tmp_path):
    twin = tmp_path / "other" / "mine"
    (twin / "step0").mkdir(parents=True)
    with pytest.raises(RequestError, match="two models are called mine"):
        all_checkpoints([str(trained), str(twin)], None)


def test_a_revision_is_found_by_its_number(trained):
    found = checkpoints(str(trained))
    assert found.revision("512") == found.revision("step512")
    with pytest.raises(RequestError, match="no revision 'step7' in this sweep: it has step0, step512"):
        found.revision("step7")
