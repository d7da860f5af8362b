"""Ranking, sizes and MLP lists."""

import pandas as pd
import pytest

from arithcirc.circuits.circuit import curve_sizes, masks_of, parse_mlps, rank_heads
from arithcirc.components import Head
from arithcirc.errors import RequestError


def effects() -> pd.DataFrame:
    rows = [
        ("op1", 0, "head", 0, 0.1),
        ("equals", 0, "head", 0, 0.5),
        ("op1", 0, "head", 1, 0.9),
        ("equals", 0, "head", 1, 0.2),
        ("op1", 1, "head", 0, -3.0),
        ("equals", 1, "head", 0, -1.0),
        ("equals", 0, "mlp", None, 9.0),
    ]
    table = pd.DataFrame(rows, columns=["position", "layer", "kind", "head", "mean"])
    return table.assign(metric="logit_diff", change="any", head=table["head"].astype("Int64"))


def test_heads_rank_by_their_largest_effect() -> None:
    ranked = rank_heads(effects())
    assert ranked.heads == (Head(0, 1), Head(0, 0), Head(1, 0))
    assert ranked.effect == (0.9, 0.5, -1.0)
    assert ranked.position == ("op1", "equals", "equals")


def test_unknown_metric_is_refused() -> None:
    with pytest.raises(RequestError, match="no effects of metric 'entropy'"):
        rank_heads(effects(), metric="entropy")


@pytest.mark.parametrize(
    ("text", "layers"),
    [("all", (0, 1, 2, 3)), ("none", ()), ("0,2-3", (0, 2, 3)), ("1", (1,)), (" ALL ", (0, 1, 2, 3))],
)
def test_mlp_lists(text: str, layers: tuple[int, ...]) -> None:
    assert parse_mlps(text, 4) == layers


@pytest.mark.parametrize("text", ["", "x", "1-", "4", "0,9", "-1"])
def test_bad_mlp_lists_are_refused(text: str) -> None:
    with pytest.raises(RequestError, match="--mlps"):
        parse_mlps(text, 4)


def test_curve_sizes_cover_both_ends() -> None:
    assert curve_sizes(24) == list(range(25))
    large = curve_sizes(1024)
    assert large[0] == 0
    assert large[-1] == 1024
    assert large == sorted(set(large))
    assert len(large) < 30


def test_masks_keep_what_they_name() -> None:
    masks = masks_of([((Head(1, 2),), (0,)), ((), (0, 1))], 2, 3)
    assert masks.heads.sum() == 1
    assert bool(masks.heads[0, 1, 2])
    assert masks.mlps.tolist() == [[True, False], [True, True]]
