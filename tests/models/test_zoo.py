"""Names to folders and hub ids, without loading or downloading anything."""

import pytest

from arithcirc.errors import ModelError
from arithcirc.models import zoo
from arithcirc.models.zoo import SHIPPED, ZOO, find, locate, pythia_steps, shipped_folder, step_folders


def checkpoint(folder):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def steps(tmp_path):
    """A model with three checkpoints, and things beside them that are none."""
    for step in (512, 1000, 0):
        checkpoint(tmp_path / "trained" / f"step{step}")
    checkpoint(tmp_path / "trained" / "step2000.part")
    (tmp_path / "trained" / "step9").touch()
    return tmp_path / "trained"


def test_checkpoints_come_in_step_order(steps):
    assert list(step_folders(steps)) == ["step0", "step512", "step1000"]


def test_a_folder_is_one_checkpoint(tmp_path):
    found = locate(str(checkpoint(tmp_path / "mine")))
    assert (found.name, found.revision, found.local) == ("mine", "main", True)


def test_the_last_checkpoint_is_the_default(steps):
    assert (locate(str(steps)).name, locate(str(steps)).revision) == ("trained", "step1000")
    assert locate(str(steps), "step0").source == str(steps / "step0")


def test_a_step_folder_named_alone_is_the_same_model_and_revision(steps):
    alone, named = locate(str(steps / "step512")), locate(str(steps), "step512")
    assert (alone.name, alone.revision, alone.source) == (named.name, named.revision, named.source)


def test_relative_paths_and_trailing_slashes_name_the_folder(steps, monkeypatch):
    monkeypatch.chdir(steps)
    assert locate(".").name == locate("../trained/").name == "trained"


@pytest.mark.parametrize("name", ["EleutherAI/pythia-70m", "EleutherAI/pythia-6.9b-deduped"])
@pytest.mark.parametrize("step", [0, 1, 512, 1000, 142000])
def test_published_steps_of_pythia_are_taken_with_and_without_their_word(name, step):
    assert locate(name, f"step{step}") == locate(name, str(step))
    assert (locate(name, f"step{step}").revision, locate(name, f"step{step}").fetched) == (f"step{step}", None)


def test_the_last_step_of_pythia_is_fetched_from_main():
    found = locate("EleutherAI/pythia-6.9b", "step143000")
    assert (found.revision, found.fetched) == ("step143000", "main")


@pytest.mark.parametrize(
    ("revision", "near"),
    [("step1500", "step1000 and step2000"), ("3", "step2 and step4"), ("step600", "step512 and step1000")],
)
def test_a_step_of_pythia_that_was_not_published_is_refused_with_the_nearest(revision, near):
    with pytest.raises(ModelError, match=f"no revision '{revision}': the nearest published ones are {near}"):
        locate("EleutherAI/pythia-1.4b", revision)
    with pytest.raises(ModelError, match="the nearest published ones are step143000 "):
        locate("EleutherAI/pythia-1.4b", "step143001")


@pytest.mark.parametrize(
    ("name", "revision"),
    [
        ("EleutherAI/pythia-70m", "a39f36b100fe8a5377810d56c3f4789b9c53ac42"),
        ("EleutherAI/pythia-70m", "refs/pr/2"),
        ("EleutherAI/pythia-70m", "main"),
        ("other/pythia-70m", "step1500"),
        ("other/pythia-70m", "banana"),
    ],
)
def test_other_revisions_are_passed_on(name, revision):
    assert locate(name, revision).revision == revision


@pytest.mark.parametrize("revision", ["banana", "step", "stepp1000", "v1.0", "Main"])
def test_a_revision_that_pythia_cannot_have_is_refused(revision):
    with pytest.raises(ModelError, match=f"no revision '{revision}': use main, step0 .. step143000"):
        locate("EleutherAI/pythia-70m-deduped", revision)


def test_a_missing_folder_within_one_that_exists_is_no_hub_id(steps, monkeypatch):
    monkeypatch.chdir(steps.parent)
    with pytest.raises(ModelError, match="trained/none does not exist, though the folder trained does"):
        locate("trained/none")
    assert locate("trained/step0").local
    (steps.parent / "EleutherAI").mkdir()
    assert not locate("EleutherAI/pythia-70m").local


def test_the_published_steps_are_154():
    steps = pythia_steps()
    assert (len(steps), steps[0], steps[-1]) == (154, 0, 143_000)
    assert list(steps) == sorted(set(steps))
    assert sum(step < 1000 for step in steps) == 11
    assert all(step % 1000 == 0 for step in steps if step >= 1000)


def test_models_are_found_by_id_by_short_name_and_as_deduped():
    assert find("pythia-6.9b") is find("EleutherAI/Pythia-6.9b-deduped") is find("EleutherAI/pythia-6.9b")
    assert find("Meta-Llama-3-8B").gated
    assert find("nothing") is None
    assert len({entry.name for entry in ZOO}) == len(ZOO)


def test_a_hub_id_is_kept_as_it_is():
    found = locate("EleutherAI/pythia-70m", "step1000")
    assert (found.name, found.revision, found.source, found.local) == (
        "EleutherAI/pythia-70m",
        "step1000",
        "EleutherAI/pythia-70m",
        False,
    )
    assert locate("gpt2").revision == "main"


@pytest.mark.parametrize("model", ["/no/such/folder", "./none", "~/none", "a/b/c", "C:\\none"])
def test_a_missing_folder_is_refused(model):
    with pytest.raises(ModelError, match="does not exist"):
        locate(model)


@pytest.mark.parametrize("model", ["", "two words", "owner/", "what?"])
def test_a_name_that_can_be_nothing_is_refused(model):
    with pytest.raises(ModelError, match="neither a folder nor a Hugging Face id"):
        locate(model)


def test_a_file_is_refused(steps):
    with pytest.raises(ModelError, match="is a file: give the folder"):
        locate(str(steps / "step0" / "config.json"))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"no config\.json and no step<N> folders"):
        locate(str(tmp_path))


@pytest.mark.parametrize("revision", ["step7", "main", "../step0"])
def test_an_unknown_revision_is_refused_with_the_known_ones(steps, revision):
    with pytest.raises(ModelError, match="it has step0, step512, step1000"):
        locate(str(steps), revision)


def test_a_revision_of_a_folder_without_steps_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no step folders, so --revision step1"):
        locate(str(checkpoint(tmp_path / "mine")), "step1")


def test_the_shipped_model_is_first_and_found_by_name(steps, monkeypatch):
    monkeypatch.setattr(zoo, "shipped_folder", lambda: steps)
    assert ZOO[0].name == SHIPPED
    assert locate(None) == locate(SHIPPED)
    assert (locate(None).name, locate(None).revision) == (SHIPPED, "step1000")


def test_a_missing_shipped_model_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "__file__", str(tmp_path / "arithcirc" / "models" / "zoo.py"))
    with pytest.raises(ModelError, match="the shipped model neox-arith is missing"):
        shipped_folder()
