"""Components are values: ordered, hashable, and printed in one way."""

import pytest

from arithcirc.components import PATCHED_POSITIONS, Head, Mlp, Neuron, Position, Site, all_heads, all_mlps, kind


@pytest.mark.parametrize(
    ("component", "text", "word"),
    [(Head(3, 1), "L3H1", "head"), (Mlp(3), "L3MLP", "mlp"), (Neuron(3, 17), "L3N17", "neuron")],
)
def test_components_print_and_name_their_kind(component, text, word):
    assert str(component) == text
    assert kind(component) == word
    assert str(Site(component, Position.EQUALS)) == f"{text}@equals"


def test_components_are_values():
    assert {Head(0, 1), Head(0, 1), Mlp(0)} == {Mlp(0), Head(0, 1)}
    assert Head(0, 1) != Neuron(0, 1)
    assert sorted([Head(1, 0), Head(0, 2), Head(0, 1)]) == [Head(0, 1), Head(0, 2), Head(1, 0)]
    with pytest.raises(AttributeError):
        Head(0, 1).layer = 2


def test_all_components_come_layer_major():
    assert all_heads(2, 3) == tuple(Head(layer, i) for layer in (0, 1) for i in (0, 1, 2))
    assert all_mlps(2) == (Mlp(0), Mlp(1))


def test_every_position_but_bos_is_patched():
    assert tuple(Position)[1:] == PATCHED_POSITIONS
