"""The recipe `small`, trained whole with three seeds: every bar that was set before it was run."""

import pytest

from arithcirc.axioms.recipe import AXIOM_PRESETS
from arithcirc.axioms.study.bars import ALL_BARS
from arithcirc.axioms.study.questions import Evaluation
from arithcirc.axioms.study.study import Request, open_study, run_study

SEEDS = (0, 1, 2)
ASKED = Evaluation(families=("sequential", "flipped", "reversal", "branching"), longest=15, questions=500)


@pytest.mark.slow
def test_three_seeds_hold_every_bar(tmp_path):
    small = AXIOM_PRESETS["small"]
    for mixes, positions in ((("TS2",), ("none", "sinusoidal", "learned")), (("OCC",), ("none",))):
        request = Request(small, mixes, positions, SEEDS, ASKED, reseeds=1, device="cpu")
        run = run_study(open_study(request, tmp_path), workers=2)
    bars = run.table("bars").set_index("bar")
    assert set(bars.index) == {bar.name for bar in ALL_BARS}
    assert bars["demanded"].all()
    assert bars["holds"].all(), bars[["wanted", "measured", "values"]].to_string()
    models = bars[~bars.index.str.startswith("mention")]
    assert (models["seeds"] == len(SEEDS)).all()
