"""A neuron's small maps: which checkpoints a run leads to, what is drawn, and how missing maps come one by one."""

import json
import time
from pathlib import Path

import pytest
from explorer import planted_live as world
from explorer.asking import asker
from explorer.synthetic_explorer import make_explorer_run
from plotly.utils import PlotlyJSONEncoder
from sweep.synthetic_sweep import NAME

from arithcirc.catalogue import SweepFolder
from arithcirc.components import Neuron
from arithcirc.explorer.app import make_app
from arithcirc.explorer.pages import neuron_facts, neuron_small
from arithcirc.explorer.source import Source, open_source
from arithcirc.explorer.view import View
from arithcirc.store import RunFolder

PLAIN = Neuron(0, 39)
"""A neuron without a stored map."""


def drawn(cards: list) -> str:
    return json.dumps([card.to_plotly_json() for card in cards], cls=PlotlyJSONEncoder, ensure_ascii=False)


def test_missing_maps_are_computed_one_after_another(explorer_run: RunFolder, planted_live: world.PlantedLive) -> None:
    context = asker([explorer_run.path], planted_live).context
    source = context.library.open(View())
    view = View("neuron", source.key, op="+")
    places = neuron_small.operators(source, view, neuron_facts.facts(source, "+", PLAIN))
    assert [place.operator for place in places] == source.operators
    assert [place.here for place in places] == [o == "+" for o in source.operators]
    assert drawn(neuron_small.cards(context.live, places, PLAIN, "operators")).count("no map yet") == 4
    said, until = set(), time.monotonic() + 60
    while (step := neuron_small.compute(context.live, places, PLAIN))[1] and time.monotonic() < until:
        said.add(step[0])
        time.sleep(0.02)
    assert step == ("", False)
    assert any("4 of 4 maps to come" in text for text in said)
    page = drawn(neuron_small.cards(context.live, places, PLAIN, "operators"))
    assert "no map yet" not in page
    assert page.count("largest |K| ") == 4


def test_without_a_model_the_reason_stands_below(explorer_run: RunFolder) -> None:
    context = asker([explorer_run.path]).context
    source = context.library.open(View())
    places = neuron_small.operators(source, View("neuron", op="+"), neuron_facts.facts(source, "+", PLAIN))
    assert "--no-live" in drawn(neuron_small.cards(context.live, places, PLAIN, "operators"))
    said, going = neuron_small.compute(context.live, places, PLAIN)
    assert "--no-live" in said
    assert not going


def test_a_run_leads_to_the_sweep_of_its_model(planted_sweep: SweepFolder, tmp_path: Path) -> None:
    mine = make_explorer_run(tmp_path / "a" / "step9", name=NAME, tables=("accuracy", "neurons"), with_maps=False)
    other = make_explorer_run(tmp_path / "b" / "step9", name="another", tables=("accuracy",), with_maps=False)
    context = make_app([mine.path, other.path, planted_sweep.path])
    source = open_source("a", mine.path)
    sweep = neuron_small.sweep_of(context, source)
    assert sweep is not None
    assert sweep.path == planted_sweep.path.resolve()
    assert neuron_small.sweep_of(context, sweep) is sweep
    assert neuron_small.sweep_of(context, open_source("b", other.path)) is None
    assert neuron_small.sweep_of(make_app([mine.path]), source) is None
    rows = sweep.all_steps("neurons").query("operator == '+' and prompts == 'own' and method == 'exact'")
    row = rows[rows["metric"] == "logit_diff"].iloc[0]
    of = neuron_facts.facts(source, "+", Neuron(int(row["layer"]), int(row["neuron"])))
    places = neuron_small.steps(source, sweep, View("neuron", "a", op="+"), of, None)
    assert [place.title for place in places] == [c.revision for c in sweep.checkpoints if c.model == NAME]
    known = neuron_facts.over_steps(sweep, "+", of.neuron, "neurons")
    measured = [place.title for place in places if place.lines[0].endswith(" nats")]
    assert sorted(measured) == sorted(known["revision"])
    assert all(place.source.checkpoint.revision == place.title for place in places)
    assert all(f"revision={place.title}" in place.href for place in places)


@pytest.mark.parametrize(
    ("revision", "weights", "same"), [("step4", "x", False), ("step4", "w", True), ("s", "x", True)]
)
def test_weights_decide_where_both_know_them(revision: str, weights: str, same: bool) -> None:
    def held(revision: str, weights: str) -> Source:
        return Source("a", Path(), False, {"config": {"model": {"revision": revision, "weights_sha256": weights}}})

    assert neuron_small._same(held("step4", "w"), held(revision, weights)) is same
