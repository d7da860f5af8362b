"""Figures and verdicts of an axiom study: the numbers of its tables, and the words that follow from them."""

import numpy as np
import pandas as pd
import pytest
from axioms import planted_axioms as planted

from arithcirc.axioms.evaluation import Cell, evaluation_set
from arithcirc.axioms.names import Names
from arithcirc.axioms.shortcuts import SHORTCUTS
from arithcirc.errors import RequestError
from arithcirc.viz.axioms import beside, opened, words
from arithcirc.viz.axioms.bars import bars_figure
from arithcirc.viz.axioms.beaten import beaten
from arithcirc.viz.axioms.cells import over_seeds
from arithcirc.viz.axioms.conclusions import hop_by_hop
from arithcirc.viz.axioms.guesses import guesses
from arithcirc.viz.axioms.heads import edge_head_map
from arithcirc.viz.axioms.hops import by_hops, hops_figure
from arithcirc.viz.axioms.layers import layer_curves, probe_map
from arithcirc.viz.axioms.lengths import length_figure
from arithcirc.viz.axioms.neurons import class_shares, knockouts
from arithcirc.viz.axioms.patching import patching_heads, patching_map
from arithcirc.viz.axioms.rule import rule_figure
from arithcirc.viz.axioms.sets import overview, set_dots
from arithcirc.viz.axioms.study import AxiomStudy
from arithcirc.viz.axioms.training import training_figure
from arithcirc.viz.axioms.walk import walk_attention, walk_margins
from arithcirc.viz.frames import RunData

NONE = "TS2-none-s0 step200"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> RunData:
    root = tmp_path_factory.mktemp("axioms") / "small"
    planted.write_study(root)
    planted.write_opening(root / "opening" / "none")
    planted.write_opening(root / "opening" / "learned", model="models/TS2-learned-s0/step200", word="shortcut")
    planted.write_comparison(root)
    return AxiomStudy.find(root).read()


@pytest.fixture(scope="module")
def cells(data):
    return data.tables["cells"]


def trace(figure, name, panel=0):
    return [t for t in figure.data if t.name == name][panel]


# -- verdicts ----------------------------------------------------------------------------------------------------------


def test_verdicts_are_those_that_were_planted(data):
    found = {(m.mix, m.positions): m for m in beaten(data)}
    assert {key: m.word for key, m in found.items()} == {
        ("TS2", "none"): "rule in part",
        ("TS2", "learned"): "trained kind only",
        ("OCC", "none"): "shortcut",
    }
    assert {key: m.total for key, m in found.items()} == {key: planted.total(*key) for key in found}
    assert ("shuffled", 9, False, "") in found["TS2", "none"].tried, "better in the mean, but not beyond the interval"
    assert ("branching 2", 12, False, "end roles") in found["TS2", "none"].tried
    assert found["TS2", "none"].inside == found["TS2", "learned"].inside == (4, 4)
    assert "sequential" not in found["TS2", "none"].by_set, "mention order answers all of them: they cannot tell"


@pytest.mark.parametrize(
    ("value", "word"), [(1.0, "rule"), (0.52, "shortcut"), (0.8, "shortcut"), (0.0, "nothing learned")]
)
def test_a_model_that_is_equally_good_everywhere(cells, value, word):
    rows = cells[(cells["mix"] == "TS2") & (cells["positions"] == "none")].copy()
    for column, shift in (("accuracy", 0), ("low", -0.05), ("high", 0.05)):
        rows[column] = np.clip(value + shift, 0, 1) if value < 0.52 else rows[column]
    rows["hard"], rows["hard_low"], rows["hard_high"] = value, value - 0.05, value + 0.05
    shortcuts = cells[cells["kind"] == "shortcut"]
    data = RunData({"cells": pd.concat([rows, shortcuts])}, {}, {"recipe": {"chain_lengths": [3, 6]}})
    assert [m.word for m in beaten(data)] == [word]


@pytest.mark.parametrize(("mix", "word"), [("TS2", "shortcut"), ("OCC", "shortcut")])
def test_end_roles_itself_is_no_rule(cells, mix, word):
    mine = cells[cells["model"] == "end roles"].assign(kind="model", mix=mix, positions="none", model="m")
    data = RunData({"cells": pd.concat([mine, cells[cells["kind"] == "shortcut"]])}, {}, {})
    assert [m.word for m in beaten(data)] == [word]


@pytest.mark.parametrize(
    ("mix", "turned", "word"),
    [
        ("OCC", True, "shortcut in part"),
        ("OCC", False, "rule in part"),
        ("TS2", True, "trained kind only"),
        ("TS2", False, "shortcut in part"),
    ],
)
def test_the_trained_kind_is_turned_edges_and_occ_has_none(cells, mix, turned, word):
    mine = cells[(cells["mix"] == "TS2") & (cells["positions"] == "none")].assign(mix=mix)
    mine = mine.assign(hard_low=np.where((mine["set"] == "flipped") == turned, 0.9, 0.1))
    data = RunData({"cells": pd.concat([mine, cells[cells["kind"] == "shortcut"]])}, {}, {})
    assert [m.word for m in beaten(data)] == [word]


def test_the_answer_names_shortcut_and_rule(data):
    said = {who: (word, text) for who, word, _, text in words.answer(data)}
    assert said["TS2 · no positions"][0] == "a rule in part"
    assert said["TS2 · no positions"][1].startswith(
        "It does better than every shortcut on chains with edges turned, chains written last first, shuffled chains up "
        "to 8 nodes, branching graphs of 1.4 edges a node and branching graphs of 2 edges a node up to 10 nodes. "
        "That is 32 of 34 sets that can tell, 4 of 4 of chains with turned edges of trained length and 28 of 30 others."
        " On branching graphs of 1.4 edges a node it is right in 0.90 of all questions, literal edge alone in 0.75 and "
        "end roles alone in 0.75."
    )
    assert "on no kind of graph; end roles does better. That is 0 of 34" in said["OCC · no positions"][1]
    assert "of trained length; not" not in said["TS2 · learned"][1]
    assert (
        "turned up to 6 nodes; not on chains written last first, shuffled chains or branching graphs, where end "
        in (said["TS2 · learned"][1])
    )
    assert said["OCC · no positions"][0] == "a shortcut"
    assert "last first it is right in 0.08; who goes by mention order is in 0.08." in said["OCC · no positions"][1]
    assert said["TS2 · learned"][0] == "trained kind only"
    assert "no positions 0.90, learned 0.52" in words.lengths(data)
    first, rest = words.in_short(data).split(". A rule", 1)
    assert first.startswith("TS2 · no positions does better than every shortcut on chains with edges turned, ")
    assert f"A rule{rest}" == (
        "A rule in part: TS2 · no positions. Trained kind only: TS2 · learned. A shortcut: OCC · no positions."
    )


def test_cards_have_branching_graphs_beside_the_best_shortcut(data):
    rows = {c["title"]: c["rows"] for c in words.cards(data)}
    assert rows["TS2 · no positions"][-2:] == [("branching 1.4, hard", "0.90"), ("end roles there", "0.75")]


def test_bars_are_counted_and_what_was_not_measured_is_said(data):
    said, rows = words.bars(data)
    bars = data.tables["bars"]
    assert said.startswith(f"{int(bars['holds'].fillna(False).sum())} of {int(bars['holds'].notna().sum())} bars hold")
    assert "1 could not be measured" in said  # sinusoidal positions are not there
    assert [r["measured"] == "not measured" for r in rows] == list(bars["holds"].isna())
    spans = {r["bar"]: r["span"] for r in rows}
    assert spans["TS2 none, flipped 6"] == "0.85 to 0.95"
    assert spans["TS2 none, sequential 11, 13, 15"] == "0.87 to 0.93", "0.05 / sqrt(3) to both sides"
    assert spans["TS2 none − OCC none, reversal 6"] == "0.75 to 0.89", "0.05 sqrt(2) to both sides of 0.82"
    assert spans["TS2 none − sinusoidal, sequential 11, 13, 15"] == ""
    assert all(spans[r["bar"]] for r in rows if r["measured"] != "not measured")
    figure = bars_figure(bars)
    drawn = sorted(x for t in figure.data for x in t.x)
    assert drawn == sorted(bars["measured"].dropna())


# -- figures of the study ----------------------------------------------------------------------------------------------


def test_lengths_are_drawn_as_they_are_and_seeds_apart(cells):
    more = cells[cells["positions"] == "none"].copy()
    more[["model", "asked_seed"]] = "TS2-none-s1", 1
    more[["accuracy", "low", "high"]] -= 0.2
    both = pd.concat([cells, more[more["mix"] == "TS2"]])
    figure = length_figure(both, mix="TS2")
    line = trace(figure, "no positions")
    assert np.allclose(line.y, 0.8)
    assert np.allclose(line.error_y.array, 0.15)
    assert np.allclose(line.error_y.arrayminus, 0.15)
    seeds = trace(figure, "no positions", 1)
    assert len(seeds.x) == 2 * len(line.x)
    assert np.allclose(trace(figure, "mention order").y, 1.0)
    assert np.allclose(trace(figure, "mention order", 1).y, 0.5)
    with pytest.raises(RequestError, match="TS1"):
        length_figure(cells, mix="TS1")


def test_the_papers_models_wait_in_the_legend(data):
    figure = length_figure(data.tables["cells"], data.tables["published"], mix="TS2")
    printed = trace(figure, "paper: TS2 NoPE")
    assert printed.visible == "legendonly"
    assert printed.y[0] == 1.0


def test_a_repeated_training_does_not_count(cells):
    first = cells.copy()
    first["counted"] = first["positions"] != "learned"
    assert "learned" not in set(over_seeds(first, measure="accuracy")["who"])


def test_every_set_has_its_dots(cells):
    figure = set_dots(cells, mix="TS2")
    panels = [a.text for a in figure.layout.annotations]
    assert panels[0] == "sentences last first"
    assert len(panels) == 5
    assert list(trace(figure, "no positions", 4).x) == [0.9, 0.9, 0.9, 0.55]
    assert list(trace(figure, "mention order").x) == [0.08] * 4


def test_accuracy_by_path_length_leaves_out_what_few_questions_have(data):
    figure = hops_figure(data.tables["hops"], data.tables["cells"], mix="TS2", name="branching 1.4")
    assert [a.text for a in figure.layout.annotations] == [
        "5 nodes", "8 nodes", "10 nodes", "12 nodes", "how often Yes is said",
    ]  # fmt: skip
    line = trace(figure, "no positions")
    assert list(line.x) == [0, 0.5, 1, 2]
    assert np.allclose(line.y, [0.9, np.nan, 1.0, 0.7], equal_nan=True), "No is no path: its point stands alone"
    share = trace(figure, "no positions", 4)
    assert (list(share.x), list(share.y)) == ([5, 8, 10, 12], [0.5] * 4)
    with pytest.raises(RequestError, match="TS1"):
        hops_figure(data.tables["hops"], mix="TS1")


def test_path_lengths_of_two_seeds_are_pooled_by_their_questions(data):
    rows = data.tables["hops"][data.tables["hops"]["model"] == "TS2-none-s0"]
    second = rows.assign(model="TS2-none-s1", accuracy=0.0, questions=rows["questions"] * 3)
    both = by_hops(pd.concat([rows, second]))
    first = both[(both["set"] == "flipped") & (both["nodes"] == 6)].set_index("hops")
    assert np.isclose(first["value"][2], 0.7 / 4)
    assert first["questions"][2] == 120


def test_the_overview_stars_means_over_part_of_the_sets(cells):
    kept = cells[~((cells["positions"] == "learned") & (cells["set"] == "names") & (cells["nodes"] > 6))]
    figure = overview(kept)
    heat = figure.data[0]
    names = [x.replace("<br>", " ") for x in heat.x]
    row = list(heat.y).index("TS2 · learned")
    assert heat.text[row][names.index("long names")] == "0.52*"
    assert heat.text[list(heat.y).index("OCC · no positions")][names.index("sentences last first")] == "0.08"
    assert np.isclose(heat.z[list(heat.y).index("mention order")][0], 0.5)


def test_training_has_a_panel_for_each_exam(data):
    figure = training_figure(data.tables["training"], data.tables["models"], mix="TS2")
    assert [a.text for a in figure.layout.annotations] == ["loss", "accuracy, sequential 6", "accuracy, flipped 6"]
    assert list(trace(figure, "learned", 1).y) == [0.5, 0.75, 1.0]


def test_tables_beside_published_numbers_mark_what_beats_no_shortcut(data):
    found = {t.title: t for t in beside.tables(data)}
    reversal = {r.name: r for r in found["sentences last first"].rows}
    assert [c.text for c in reversal["GPT-4"].cells] == ["0.97", "0.99", "0.98", "0.92"]
    assert reversal["GPT-4"].source == "transcription"
    assert not any(c.below for c in reversal["GPT-4"].cells)
    assert all(c.below for c in reversal["OCC · no positions"].cells)
    assert [c.below for c in reversal["Gemini Pro"].cells] == [True] * 4  # literal edge has .75
    assert reversal["TS2 · no positions"].cells[0].hard == "0.90"
    assert reversal["TS2 · no positions"].cells[0].span == "0.90, 95% 0.85 to 0.95; hard 0.90, 95% 0.85 to 0.95"
    notes = found["chains in order"].notes
    assert "all, 10 nodes: the released file of length 10 holds chains of 15 nodes" in notes
    assert any(n.endswith("whether of sequential or of flipped chains") for n in notes)
    assert found["sentences last first"].notes == ()
    assert reversal["TS1 NoPE"].note == "not recovered"
    assert reversal["TS1 NoPE"].cells == ()
    branching = {r.name for r in found["branching, 2 edges a node"].rows}
    assert {"TS2 NoPE", "TS2 SPE", "GPT-4"} <= branching
    tasks = [task for task, _, _ in beside.elsewhere(data)]
    assert tasks == ["correlation to causation", "d-separation"]


# -- figures of an opened model ----------------------------------------------------------------------------------------


def test_maps_show_where_the_difference_is(data):
    figure = patching_map(data.tables["patching"], opening=NONE, pair="edge turned")
    heat = figure.data[0]
    at = {(y, x): heat.z[i][j] for i, y in enumerate(heat.y) for j, x in enumerate(heat.x)}
    assert at["cause", "L0"] == 1
    assert at["“?”", "end"] == 1
    assert sum(at.values()) == 3
    heads = patching_heads(data.tables["patching"], opening=NONE, pair="edge turned").data[0]
    assert not any("3 later" in x for x in heads.x)
    assert np.isclose(heads.z[list(heads.y).index("L1H0")][list(heads.x).index("“?”")], 0.7)
    assert np.isclose(np.nansum(heads.z), 0.7)


def test_the_planted_head_follows_its_edge(data):
    figure = edge_head_map(data.tables["edge_heads"], opening=NONE, questions="designed")
    excess, effect = figure.data
    row, column = list(excess.y).index("L1H0"), list(excess.x).index("asked cause: as cause")
    assert np.isclose(excess.z[row][column], 0.5)
    assert np.isclose(effect.z[row][column], 0.6)
    assert np.isclose(np.sum(np.abs(effect.z)), 0.6)


def test_layers_and_probes(data):
    figure = probe_map(data.tables["reach_probes"], opening=NONE)
    mark = figure.data[-1]
    assert [list(row) for row in mark.text] == [[".50", ".95", ".95"], [".50", ".95", ".95"], [".50", ".50", ".95"]]
    assert np.allclose(figure.data[0].z, 0)
    rings = [t for t in layer_curves(data.tables["layer_curves"], data.tables["layers_needed"], opening=NONE).data
             if t.marker.symbol == "circle-open"]  # fmt: skip
    assert sorted((t.x[0], t.y[0]) for t in rings)[-1] == (2, 0.95)
    needed = opened.layers_needed(data, NONE)
    assert needed["rows"] == [("1", ["1", "1", "1"]), ("2", ["2", "2", "2"]), ("all", ["1", "1", "1"])]


def test_circuit_neurons_and_knock_outs(data):
    found = opened.circuit(data, NONE)
    assert found["counts"] == "3 of 4 heads and 1 of 2 MLPs"
    assert found["parts"] == "L0H0, L1H0, L1H1, L1MLP"
    assert found["rows"][0]["faithfulness"] == "0.92"
    assert found["rows"][0]["random"] == "0.20"
    shares = class_shares(data.tables["neurons"], opening=NONE)
    assert list(trace(shares, "reachable").y) == [0, 0.25]
    figure = knockouts(data.tables["knockouts"], opening=NONE)
    assert [t.x[0] for t in figure.data if t.name is None] == [0, 0, 0.4]


def test_a_question_is_walked(data):
    figure = walk_attention(data.tables["walk_tokens"], data.tables["walk_attention"], opening=NONE, layer=1)
    (heat,) = figure.data
    assert np.isclose(heat.z[9][0], 0.6)
    assert np.isnan(heat.z[0][9])
    said = opened.walk(data, NONE)
    assert said["margin"] == "+6.5"
    assert said["too"] == "Mention order and end roles answer it rightly too; literal edge does not."
    assert said["looks"] == [{"head": "L1H0", "from": "A (asked cause)", "to": "A causes B.", "attention": "0.90"}]
    assert list(walk_margins(data.tables["walk_margins"], opening=NONE).data[0].y) == [-1, 0.5, 6.5]


def test_the_verdict_of_an_opening_names_what_failed(data):
    said = opened.verdict(data, NONE)
    assert (said["word"], said["tag"]) == ("a rule in part", "good")
    assert (
        "every shortcut on 1 of 2 sets that can tell. Not on branching 1.4, 12 nodes (0.55 [0.49, 0.61] against 0.80)."
        in said["said"]
    )
    assert "1 could not be asked" in said["said"]
    assert "those of “reachable” on designed; those of “mention order” on no set." in said["said"]


def test_sets_of_an_opening_stand_beside_every_shortcut(data):
    said = opened.verdict(data, NONE)
    assert said["shortcuts"] == ["mention order", "literal edge", "end roles"]
    first, *_, last = said["rows"]
    assert first["accuracy"] == first["hard"] == ("0.90", "0.84–0.96")
    assert [(value, best) for value, best, _ in first["others"]] == [("0.50", False), ("0.50", False), ("0.80", True)]
    assert (first["misled"], first["n_misled"]) == (("0.25", "0.11–0.47"), "20")
    assert (last["word"], last["hard"], last["accuracy"]) == ("not asked", ("–", ""), ("–", ""))


def test_an_older_table_has_two_shortcuts_and_says_so(data):
    lacking = ["roles", "roles_hard", "like_roles", "n_misled", "misled", "misled_low", "misled_high"]
    general = data.tables["generalisation"].drop(columns=lacking)
    older = RunData({**data.tables, "generalisation": general})
    said = opened.verdict(older, NONE)
    assert said["said"].startswith("Hard accuracy beats mention order and literal edge on 1 of 2")
    assert all(len(r["others"]) == 2 and not r["n_misled"] for r in said["rows"])
    assert {"mention order", "literal edge"} <= {t.name for t in rule_figure(general).data}
    assert "end roles" in {t.name for t in rule_figure(data.tables["generalisation"]).data}


def test_shortcuts_answer_the_walked_question_as_the_study_has_them():
    names_ = Names(1, 2, "abcXYZ12")
    asked = [q for f, n in (("flipped", 5), ("shuffled", 6)) for q in
             evaluation_set(Cell(f, n), number=30, seed=3, names=names_)]  # fmt: skip
    wrong = set()
    for question in asked:
        rows = [(c, r, i) for i, edge in enumerate(question.graph.edges) for n, r in zip(edge, ("cause", "effect"),
                strict=True) for c in n]  # fmt: skip
        rows += [
            (c, r, None) for n, r in ((question.cause, "asked cause"), (question.effect, "asked effect")) for c in n
        ]
        tokens = pd.DataFrame(rows, columns=["token", "role", "sentence"]).reset_index()
        given = guesses(tokens)
        assert given == {name: rule(question) for name, rule in SHORTCUTS.items() if name in given}
        wrong |= {name for name, yes in given.items() if yes != question.label}
    assert {"mention order", "literal edge"} <= wrong


def test_two_models_are_told_apart(data):
    assert opened.differences(data) == [
        "Without positions: a rule in part. With learned positions: a shortcut.",
        "They differ most in hard accuracy on flipped, 9 nodes (0.90 without positions, 0.50 with learned).",
        "They do not differ much in size of the circuit (8 and 8 heads, 3 and 4 MLPs); attention along edges from the "
        "asked cause (by 0.02 at most).",
        "The table of learned positions is too short for flipped, 15 nodes.",
    ]
    assert next(title for title, _ in opened.comparison(data)) == "accuracy"


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ((5, 5, 5), "do not grow with the path (read by a probe at “?”: 5 for 1 edge, 5 for 3; they are the same"),
        ((5, 6, 5), "differ by 1 at most): this speaks against working hop by hop"),
        (
            (1, 3, 5),
            "Layers needed grow with the path (read by a probe at “?”: 1 for 1 edge, 5 for 3): this speaks for",
        ),
    ],
)
def test_layers_by_path_length_speak_for_or_against_hop_by_hop(layers, said):
    rows = [("read", "mark", d, n) for d, n in enumerate((4, *layers))]
    needed = pd.DataFrame(rows, columns=["curve", "scope", "distance", "needed"]).astype({"needed": "Int64"})
    assert said in hop_by_hop(needed)
    assert hop_by_hop(needed[needed["distance"] < 2]) == ""
