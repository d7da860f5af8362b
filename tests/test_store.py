"""Run folders: whole files only, reuse only of what is proven, and a clear line for everything else."""

import errno
import json
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from arithcirc.config import CircuitConfig, ModelConfig, PromptConfig, RunConfig
from arithcirc.errors import EnvironmentFailure, RequestError, RunConflictError
from arithcirc.store import MANIFEST, SCHEMA, RunFolder, sha256_file, write_atomic, write_text

CONFIG = RunConfig(ModelConfig("toy", "main", "w", "t", "float32"))
ALL = ("model", "prompts", "circuit")
TABLE = pd.DataFrame({"operator": ["+", "-"], "layer": [0, 1], "mean": [0.5, np.nan]})


def create(path, config=CONFIG, sections=ALL, **facts) -> RunFolder:
    return RunFolder.create(path, config, sections=sections, facts=facts)


@pytest.fixture
def run(tmp_path):
    """A run with one finished stage."""
    run = create(tmp_path / "run")
    run.finish("first", [run.write_table("effects", TABLE), run.write_arrays("effects", {"x": np.arange(3)})])
    return run


def files(folder) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


# -- writing --------------------------------------------------------------------------------------------------------


def test_tables_and_arrays_read_back_as_written(run):
    pd.testing.assert_frame_equal(run.table("effects"), TABLE)
    np.testing.assert_array_equal(run.arrays("effects")["x"], np.arange(3))
    assert run.tables() == ["effects"]
    assert not list(run.path.glob("*.part"))


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")

    def killed(part):
        part.write_text("half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, killed)
    assert path.read_text() == "old"
    write_text(path, "new")
    assert files(tmp_path) == {"file": b"new"}


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EACCES, "the folder is not writable"),
        (errno.EROFS, "the folder is not writable"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_the_systems_refusal_is_one_clear_line(run, monkeypatch, number, reason):
    def refuse(_):
        raise OSError(number, os.strerror(number))

    before = files(run.path)
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(EnvironmentFailure, match=f"cannot write .*: .*{reason}.*finished stages are kept"):
        run.write_table("effects", TABLE * 2)
    assert files(run.path) == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
@pytest.mark.parametrize("file", ["effects.parquet", "effects.safetensors", MANIFEST])
def test_a_full_disk_is_named_whichever_library_writes(run, file):
    (run.path / f"{file}.part").symlink_to("/dev/full")
    writes = {
        "effects.parquet": lambda: run.write_table("effects", TABLE),
        "effects.safetensors": lambda: run.write_arrays("effects", {"x": np.arange(9)}),
        MANIFEST: lambda: run.note("key", "value"),
    }
    before = (run.path / file).read_bytes()
    with pytest.raises(EnvironmentFailure, match=rf"cannot write .*{file}: the disk is full"):
        writes[file]()
    assert (run.path / file).read_bytes() == before


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_file_in_the_folders_place_is_a_clear_line(tmp_path, out):
    (tmp_path / "file").touch()
    with pytest.raises((EnvironmentFailure, RunConflictError), match=r"file.*choose another --out"):
        create(tmp_path / out)


# -- reuse ----------------------------------------------------------------------------------------------------------


def test_a_finished_stage_is_known_to_the_next_process(run):
    assert run.finished("first")
    assert create(run.path).finished("first")
    assert not run.finished("second")


@pytest.mark.parametrize("file", ["effects.parquet", "effects.safetensors"])
def test_a_changed_or_missing_file_unfinishes_its_stage(run, file):
    content = (run.path / file).read_bytes()
    (run.path / file).write_bytes(content[:-1] + b"?")
    assert not run.finished("first")
    (run.path / file).unlink()
    assert not run.finished("first")
    (run.path / file).write_bytes(content)
    assert run.finished("first")


def test_forgotten_stages_are_unfinished(run):
    run.forget(["first", "never there"])
    assert not RunFolder.open(run.path).finished("first")


def test_the_manifest_holds_hashes_versions_and_facts(run):
    again = create(run.path, bos_id=0)
    record = again.manifest["stages"]["first"]
    assert record["outputs"]["effects.parquet"] == sha256_file(run.path / "effects.parquet")
    assert again.manifest["schema"] == SCHEMA
    assert again.manifest["facts"] == {"bos_id": 0}
    assert {"python", "torch", "arithcirc"} <= set(again.manifest["packages"])


def test_notes_are_kept(run):
    run.note("skipped", {"*": "no correct prompts"})
    assert RunFolder.open(run.path).manifest["notes"] == {"skipped": {"*": "no correct prompts"}}


# -- conflicts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"prompts": PromptConfig(seed=5)}, "prompts: seed: 0 in the folder, 5 asked"),
        ({"circuit": CircuitConfig(target=0.8)}, "circuit: target: 0.9 in the folder, 0.8 asked"),
        ({"model": replace(CONFIG.model, weights_sha256="v")}, "model: weights_sha256: 'w' in the folder, 'v' asked"),
    ],
)
def test_another_configuration_is_refused_by_field_and_changes_nothing(run, change, named):
    before = files(run.path)
    with pytest.raises(RunConflictError, match=rf"{named}.*choose another --out"):
        create(run.path, replace(CONFIG, **change))
    assert files(run.path) == before


def test_sections_a_command_does_not_use_may_differ(run):
    assert create(run.path, replace(CONFIG, circuit=CircuitConfig(target=0.5)), ALL[:2]).finished("first")


def test_a_section_used_first_by_a_later_command_is_added(tmp_path):
    create(tmp_path, sections=ALL[:2]).finish("first", [])
    create(tmp_path, replace(CONFIG, circuit=CircuitConfig(target=0.5)))
    with pytest.raises(RunConflictError, match="target"):
        create(tmp_path)


def test_a_folder_without_a_finished_stage_takes_another_configuration(tmp_path):
    create(tmp_path)
    other = create(tmp_path, replace(CONFIG, circuit=CircuitConfig(target=0.5)))
    assert other.manifest["config"]["circuit"]["target"] == 0.5


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "\x00",
        '{"schema": 1}',
        '{"schema": 1, "stages": [], "config": {}}',
        '{"schema": 1, "stages": {"first": 3}, "config": {}}',
        '{"schema": 1, "stages": {}, "config": {"model": 3}}',
    ],
)
def test_a_damaged_manifest_is_refused(run, content):
    (run.path / MANIFEST).write_text(content)
    for use in (RunFolder.open, create):
        with pytest.raises(RunConflictError, match=r"is damaged.*choose another --out"):
            use(run.path)


def test_a_manifest_that_is_not_text_is_refused(run):
    (run.path / MANIFEST).write_bytes(b"\xff\xfe\x80")
    with pytest.raises(RunConflictError, match="is damaged"):
        RunFolder.open(run.path)


def test_another_schema_is_refused(run):
    manifest = json.loads((run.path / MANIFEST).read_text())
    (run.path / MANIFEST).write_text(json.dumps(manifest | {"schema": 99}))
    with pytest.raises(RunConflictError, match="schema 99, this version reads 1"):
        RunFolder.open(run.path)


def test_tables_without_a_manifest_are_refused(run):
    (run.path / MANIFEST).unlink()
    with pytest.raises(RunConflictError, match=r"holds tables but no manifest\.json"):
        create(run.path)
    with pytest.raises(RunConflictError, match="is not a run folder"):
        RunFolder.open(run.path)


def test_half_written_files_of_a_killed_run_do_no_harm(run):
    for name in ("effects.parquet.part", f"{MANIFEST}.part"):
        (run.path / name).write_bytes(b"half")
    assert create(run.path).finished("first")
    assert RunFolder.open(run.path).tables() == ["effects"]


# -- reading ----------------------------------------------------------------------------------------------------------


def test_a_missing_table_is_named_with_those_that_exist(run):
    with pytest.raises(RunConflictError, match="no table 'circuit': it has effects"):
        run.table("circuit")


def test_missing_arrays_are_named(run):
    with pytest.raises(RunConflictError, match="no arrays 'means'"):
        run.arrays("means")


def test_damaged_files_are_named(run):
    for file in ("effects.parquet", "effects.safetensors"):
        (run.path / file).write_bytes(b"not what it should be")
    with pytest.raises(RunConflictError, match=r"effects\.parquet is damaged"):
        run.table("effects")
    with pytest.raises(RunConflictError, match=r"effects\.safetensors is damaged"):
        run.arrays("effects")


def test_tables_are_queried_by_name_without_files_left_behind(run):
    before = set(files(run.path))
    assert run.sql("select operator from effects where layer = 1")["operator"].tolist() == ["-"]
    assert set(files(run.path)) == before


def test_a_query_that_fails_is_one_clear_line(run):
    with pytest.raises(RequestError, match=r"query .*nowhere.* failed: .*tables are effects"):
        run.sql("select * from nowhere")
