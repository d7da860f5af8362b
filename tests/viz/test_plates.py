"""The list of figures: every one is drawn from its tables, written with its sources, and kept within the budget."""

import json
from pathlib import Path

import pytest
from viz import synthetic
from viz import synthetic_neurons as made

from arithcirc.errors import RequestError
from arithcirc.store import RunFolder, sha256_file
from arithcirc.viz import embed, export, theme
from arithcirc.viz.frames import RunData, require
from arithcirc.viz.plates import ARRAYS, PLATES, TABLES, drawings

STEMS = [
    *("probes", "probes_at_equals", "neuron_effects", "neuron_agreement", "neuron_overlap", "head_attention"),
    *("head_copies", "head_cuts", "number_neurons", "labelled", "scores", "knockout_means", "failures"),
    *(f"neuron_faithfulness_{h}" for h in ("circuit", "all")),
    *(f"families_{k}" for k in ("significant", "matched")),
    *(f"gallery_{name}" for name in theme.OPERATOR_NAMES.values()),
    *(f"knockouts_by_{what}_{a}" for what in ("heuristic", "prompt") for a in made.ABLATIONS),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    tables = tuple(made.TABLES)
    return synthetic.make_run(tmp_path_factory.mktemp("plates") / "run", tables=tables)


@pytest.fixture(scope="module")
def data(run: RunFolder) -> RunData:
    return export.read_data(run, cells=20)


def test_every_table_and_array_of_the_stages_is_read(data: RunData) -> None:
    assert set(TABLES) == set(data.tables)
    assert set(ARRAYS) == set(data.arrays) == {"number_responses", "gallery"}
    assert data.operands == (0, 299)


def test_every_figure_becomes_a_file_whose_sidecar_names_its_sources(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_html", lambda figure: f"{len(figure.data)} traces")
    written = export.write_figures(run, tmp_path)
    assert sorted(p.stem for p in written) == sorted(STEMS)
    assert all(int(p.read_text().split()[0]) > 0 for p in written)
    sidecar = json.loads((tmp_path / "gallery_addition.json").read_text())
    assert (sidecar["table"], set(sidecar["also"])) == ("gallery.parquet", {"gallery.safetensors"})
    assert sidecar["also"]["gallery.safetensors"] == sha256_file(run.path / "gallery.safetensors")
    families = json.loads((tmp_path / "families_matched.json").read_text())
    assert set(families["also"]) == {"neurons.parquet", "unlabelled.parquet"}
    assert "also" not in json.loads((tmp_path / "head_cuts.json").read_text())


def test_groups_offer_what_was_drawn_and_name_their_file(data: RunData) -> None:
    groups = embed.plate_groups(data)
    assert set(groups) == {p.key for p in PLATES}
    assert groups["gallery"].default() == ["+"]
    assert list(groups["gallery"].selectors[0][1]) == list(made.OPERATORS)
    assert groups["neuron_faithfulness"].default() == ["circuit", "faithfulness"]
    assert groups["gallery"].files == "gallery.safetensors"
    assert sum(g.size for g in groups.values()) < embed.PLATES_BUDGET
    assert '"f8"' not in "".join(f for g in groups.values() for f in g.figures.values())


def test_a_small_budget_keeps_every_default_and_counts_the_rest(data: RunData) -> None:
    groups = embed.plate_groups(data, budget=1)
    assert {len(g.figures) for g in groups.values()} == {1}
    assert groups["gallery"].omitted == 3
    assert groups["gallery"].shown_selectors() == []


def test_plates_without_their_tables_or_arrays_are_passed_over(data: RunData) -> None:
    assert embed.plate_groups(RunData({})) == {}
    bare = RunData({k: t for k, t in data.tables.items() if k in ("probes", "gallery")})
    assert set(embed.plate_groups(bare)) == {"probes", "probes_at_equals"}


OPTIONAL = {
    "probes": "low high n classes base_rate epochs", "first_layers": "accuracy best rule",
    "neuron_agreement": "top expected n pearson", "neuron_overlap": "top shared union expected",
    "neuron_faithfulness": "draw n undefined faithfulness_sem chosen", "heads": "in_circuit attention_std n",
    "head_copies": "base_rate n", "head_cuts": "low high logit_diff kl n", "number_neurons": "score q heuristic",
    "knockouts_by_heuristic": "family neurons n p", "knockouts_by_prompt": "neurons n low high p",
    "failures": "answer given", "failure_tests": "p note n_correct", "gallery": "family kind end",
}  # fmt: skip


def test_optional_columns_may_be_missing(data: RunData) -> None:
    tables = {k: t.drop(columns=OPTIONAL.get(k, "").split()) for k, t in data.tables.items()}
    bare = RunData(tables, data.arrays, cells=10)
    for plate in PLATES:
        values, draw = next(iter(drawings(plate, bare)))
        assert draw() is not None, (plate.key, values)


def test_what_a_table_lacks_is_named() -> None:
    with pytest.raises(RequestError, match="no column 'epoch'"):
        require(made.probes(), "probes", ("epoch",))
    with pytest.raises(RequestError, match="no rows with position bos"):
        require(made.probes(), "probes", ("layer",), {"position": "bos"})
