"""Pins and notes: what is written is read back, by many at once, beside damaged files and in read-only folders."""

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from arithcirc.catalogue import SweepFolder
from arithcirc.components import Neuron
from arithcirc.errors import EnvironmentFailure, RequestError
from arithcirc.explorer import pins
from arithcirc.explorer.source import Source, open_source
from arithcirc.store import RunFolder


@pytest.fixture
def source(explorer_run: RunFolder, tmp_path: Path) -> Source:
    """A run of which only the manifest is needed."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(explorer_run.path / "manifest.json", folder)
    return open_source("run", folder)


def test_a_pin_is_read_back_with_its_note(source: Source):
    made = pins.set_pin(source, "+", Neuron(2, 17), "ends in 8?\nsecond line")
    assert pins.read_pins(source) == [made]
    assert pins.pin_of(source, "+", Neuron(2, 17)) == made
    assert pins.pin_of(source, "-", Neuron(2, 17)) is None
    held = json.loads((source.path / "pins.json").read_text())
    assert held["pins"][0] | {"when": ""} == {
        "operator": "+", "layer": 2, "neuron": 17, "note": "ends in 8?\nsecond line", "when": "",
    }  # fmt: skip


def test_pinning_again_keeps_the_note_and_a_new_note_replaces_it(source: Source):
    pins.set_pin(source, "+", Neuron(2, 17), "mine")
    pins.set_pins(source, [("+", Neuron(2, 17)), ("*", Neuron(3, 1))])
    assert {(p.operator, p.layer, p.neuron, p.note) for p in pins.read_pins(source)} == {
        ("+", 2, 17, "mine"), ("*", 3, 1, ""),
    }  # fmt: skip
    pins.set_pin(source, "+", Neuron(2, 17), "other")
    pins.remove_pin(source, "*", Neuron(3, 1))
    assert [(p.layer, p.note) for p in pins.read_pins(source)] == [(2, "other")]


def test_many_at_once_do_not_erase_each_other(source: Source):
    def pin(layer: int) -> None:
        for n in range(8):
            pins.set_pin(source, "+", Neuron(layer, n), f"{layer} {n}")

    threads = [threading.Thread(target=pin, args=(layer,)) for layer in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {(p.layer, p.neuron, p.note) for p in pins.read_pins(source)} == {
        (layer, n, f"{layer} {n}") for layer in range(5) for n in range(8)
    }


@pytest.mark.parametrize(
    "text", ["{", "[]", "null", '{"schema": 2, "pins": []}', '{"schema": 1, "pins": "x"}', "[" * 100_000, "\x00"]
)
def test_a_damaged_file_is_said_and_kept_aside(source: Source, text: str):
    file = source.path / "pins.json"
    file.write_text(text)
    held = pins.stored(source)
    assert held.pins == ()
    assert held.problem is not None
    assert "damaged" in held.problem
    assert "\n" not in held.problem
    pins.set_pin(source, "+", Neuron(1, 1))
    assert [p.component for p in pins.read_pins(source)] == [Neuron(1, 1)]
    assert [f.read_text() for f in source.path.glob("pins.damaged-*.json")] == [text]


def test_entries_that_are_no_pins_are_left_out_but_not_lost(source: Source):
    good = {"operator": "+", "layer": 1, "neuron": 2, "note": "kept", "when": "2026-01-01"}
    bad = [
        {"operator": "^"} | good | {"operator": "^"},
        good | {"layer": -1},
        good | {"neuron": "2"},
        good | {"note": 3},
        7,
    ]
    text = json.dumps({"schema": 1, "pins": [good, *bad, good | {"layer": True}]})
    (source.path / "pins.json").write_text(text)
    held = pins.stored(source)
    assert [(p.layer, p.note) for p in held.pins] == [(1, "kept")]
    assert held.problem is not None
    assert "6 of 7 entries" in held.problem
    pins.set_pin(source, "+", Neuron(1, 3))
    assert {p.neuron for p in pins.read_pins(source)} == {2, 3}
    assert [f.read_text() for f in source.path.glob("pins.damaged-*.json")] == [text]


def test_what_cannot_be_pinned_is_said_in_a_line(source: Source):
    pins.set_pin(source, "+", Neuron(0, 0), "x" * pins.LONGEST_NOTE)
    for operator, neuron, note, said in (
        ("+", Neuron(0, 0), "x" * (pins.LONGEST_NOTE + 1), "at most 2,000"),
        ("^", Neuron(0, 0), "", "operators are"),
        ("+", Neuron(99, 0), "", "L99N0 is not in this model"),
        ("+", Neuron(0, 10**6), "", "is not in this model"),
        ("+", Neuron(-1, 0), "", "is not in this model"),
    ):
        with pytest.raises(RequestError, match=said):
            pins.set_pin(source, operator, neuron, note)
    assert len(pins.read_pins(source)) == 1


def test_notes_are_plain_text(source: Source):
    made = pins.set_pin(source, "+", Neuron(0, 0), "a\x00\x1b[31m\ud800</script>\r\nb")
    assert made.note == "a[31m</script>\nb"
    assert pins.read_pins(source) == [made]


def test_a_folder_that_cannot_be_written_says_so_and_hands_the_pins_over(source: Source):
    pins.set_pin(source, "+", Neuron(0, 1), "before")
    (source.path / "pins.json.part").mkdir()
    with pytest.raises(EnvironmentFailure, match="download them as JSON"):
        pins.set_pin(source, "+", Neuron(0, 0))
    assert [p.note for p in pins.read_pins(source)] == ["before"]
    handed = json.loads(pins.as_json(pins.joined(source, [("+", Neuron(0, 0)), ("+", Neuron(0, 1))])))
    assert {(p["neuron"], p["note"]) for p in handed["pins"]} == {(0, ""), (1, "before")}


def test_a_folder_that_is_gone_says_so(source: Source):
    shutil.rmtree(source.path)
    assert pins.read_pins(source) == []
    with pytest.raises(EnvironmentFailure, match="cannot be saved"):
        pins.set_pin(source, "+", Neuron(0, 0))
    assert not source.path.exists()


def test_pins_of_a_sweep_belong_to_a_checkpoint(planted_sweep: SweepFolder, tmp_path: Path):
    folder = tmp_path / "sweep"
    (folder / "tables").mkdir(parents=True)
    shutil.copy(planted_sweep.path / "sweep.json", folder)
    shutil.copy(planted_sweep.path / "tables" / "accuracy.parquet", folder / "tables")
    last = open_source("sweep", folder)
    first = open_source("sweep", folder, last.checkpoints[0].model, last.checkpoints[0].revision)
    assert first.checkpoint != last.checkpoint
    pins.set_pin(first, "+", Neuron(0, 1), "early")
    pins.set_pin(last, "+", Neuron(0, 1), "late")
    assert [p.note for p in pins.read_pins(first)] == ["early"]
    assert [p.note for p in pins.read_pins(last)] == ["late"]
    assert len(pins.read_pins(first, every=True)) == 2
    pins.remove_pin(first, "+", Neuron(0, 1))
    assert [p.note for p in pins.read_pins(first, every=True)] == ["late"]


def test_pins_do_not_disturb_the_run(explorer_run: RunFolder, tmp_path: Path):
    folder = tmp_path / "run"
    shutil.copytree(explorer_run.path, folder, ignore=shutil.ignore_patterns("maps_*"))
    pins.set_pin(open_source("run", folder), "+", Neuron(0, 0), "x")
    run = RunFolder.open(folder)
    done: Callable[[str], bool] = run.finished
    assert all(done(stage) for stage in run.manifest["stages"] if stage != "maps")
    assert run.tables() == explorer_run.tables()
