"""Graphs and their classes against known numbers, against each other, and against the definition by independences."""

import numpy as np
import pytest

from arithcirc.axioms.corr2cause.dags import ancestors, labelled_dags, renamed, renamings, unlabelled_dags
from arithcirc.axioms.corr2cause.equivalence import labelled_classes, members, signatures, unlabelled_classes
from arithcirc.axioms.corr2cause.relations import RELATIONS, holds, valid, valid_of_classes
from arithcirc.axioms.corr2cause.text import independences, premise
from arithcirc.errors import RequestError

LABELLED = {2: 3, 3: 25, 4: 543, 5: 29281, 6: 3781503}
LABELLED_CLASSES = {2: 2, 3: 11, 4: 185, 5: 8782, 6: 1067825}
UNLABELLED = {2: 2, 3: 6, 4: 31, 5: 302, 6: 5984}
UNLABELLED_CLASSES = {2: 2, 3: 5, 4: 20, 5: 142, 6: 2201}
PLACE = {relation: i for i, relation in enumerate(RELATIONS)}


@pytest.mark.parametrize("nodes", [2, 3, 4, 5, pytest.param(6, marks=pytest.mark.slow)])
def test_labelled_graphs_are_as_many_as_known_distinct_and_acyclic(nodes):
    dags = labelled_dags(nodes)
    codes = dags.astype(np.int64) @ (1 << nodes * np.arange(nodes, dtype=np.int64))
    assert len(dags) == len(np.unique(codes)) == LABELLED[nodes]
    part = dags[:: max(1, len(dags) // 30_000)]
    assert not (ancestors(part) >> np.arange(nodes, dtype=np.uint8) & 1).any()


@pytest.mark.parametrize("nodes", UNLABELLED)
def test_graphs_and_classes_up_to_renaming_are_as_many_as_known(nodes):
    assert len(unlabelled_dags(nodes)) == UNLABELLED[nodes]
    assert len(unlabelled_classes(nodes)) == UNLABELLED_CLASSES[nodes]


@pytest.mark.parametrize("nodes", [2, 3, 4, 5])
def test_labelled_classes_are_as_many_as_known(nodes):
    assert labelled_classes(nodes) == LABELLED_CLASSES[nodes]


@pytest.mark.slow
def test_labelled_classes_of_six_nodes_are_as_many_as_known():
    assert labelled_classes(6) == LABELLED_CLASSES[6]


@pytest.mark.parametrize("nodes", [2, 3, 4, 5])
def test_turning_covered_edges_reaches_all_graphs_with_one_signature_and_no_other(nodes):
    dags = labelled_dags(nodes)
    by_signature: dict[int, set[tuple[int, ...]]] = {}
    for dag, signature in zip(dags.tolist(), signatures(dags).tolist(), strict=True):
        by_signature.setdefault(signature, set()).add(tuple(dag))
    for found in list(by_signature.values())[:: 1 if nodes < 5 else 20]:
        assert all(set(members(dag)) == found for dag in list(found)[:3])


@pytest.mark.parametrize("nodes", [2, 3, 4])
def test_graphs_are_of_one_class_exactly_when_they_have_the_same_independences(nodes):
    dags = labelled_dags(nodes)
    stated = [tuple(independences(tuple(dag))) for dag in dags.tolist()]
    pairs = set(zip(stated, signatures(dags).tolist(), strict=True))
    assert len(pairs) == len(set(stated)) == LABELLED_CLASSES[nodes]


@pytest.mark.parametrize("nodes", [3, 4])
def test_every_labelled_class_is_a_renaming_of_one_that_is_listed(nodes):
    moved = {renamed(dag, new) for dag in unlabelled_classes(nodes) for new in renamings(nodes)}
    assert len(np.unique(signatures(np.array(list(moved), dtype=np.uint8)))) == LABELLED_CLASSES[nodes]


def has(dag: tuple[int, ...], relation: str, x: int, y: int) -> bool:
    """The relation by its words, on paths written out one by one."""
    nodes = range(len(dag))

    def leads(a: int, b: int, avoiding: int | None = None) -> bool:
        return any(dag[c] >> a & 1 and (c == b or leads(c, b, avoiding)) for c in nodes if c != avoiding)

    edge = {(a, b): bool(dag[b] >> a & 1) for a in nodes for b in nodes}
    others = [c for c in nodes if c not in (x, y)]
    return {
        "is-parent": edge[x, y],
        "is-ancestor": leads(x, y) and not edge[x, y],
        "is-child": edge[y, x],
        "is-descendant": leads(y, x) and not edge[y, x],
        "has-collider": any(leads(x, c, y) and leads(y, c, x) for c in others),
        "has-confounder": any(leads(c, x, y) and leads(c, y, x) for c in others),
    }[relation]


@pytest.mark.parametrize("nodes", [2, 3, 4])
def test_a_relation_is_valid_exactly_when_every_graph_of_the_class_has_it(nodes):
    dags = labelled_dags(nodes)
    pairs = [(x, y) for x in range(nodes) for y in range(nodes) if x != y]
    table = np.array([[[has(tuple(dag), r, *pair) for pair in pairs] for r in RELATIONS] for dag in dags.tolist()])
    first, second = np.array(pairs).T
    assert (holds(dags)[:, :, first, second] == table).all()
    marks = signatures(dags)
    for mark in np.unique(marks):
        mine = marks == mark
        found = valid(tuple(dags[mine][0].tolist()))
        assert (found[:, first, second] == table[mine].all(axis=0)).all()
        assert not found[:, range(nodes), range(nodes)].any()


@pytest.mark.parametrize("nodes", [2, 3, 4, 5])
def test_the_table_of_all_classes_is_that_of_each(nodes):
    for dag, found in zip(unlabelled_classes(nodes), valid_of_classes(nodes), strict=True):
        assert (found == valid(dag)).all()
        assert (found[PLACE["is-child"]] == found[PLACE["is-parent"]].T).all()
        assert (found[PLACE["has-collider"]] == found[PLACE["has-collider"]].T).all()


def test_six_nodes_have_valid_relations_of_every_kind_and_a_text_for_every_class():
    assert valid_of_classes(6).any(axis=(0, 2, 3)).all()
    classes = unlabelled_classes(6)[::80]
    assert len({premise(dag, "ABCDEF") for dag in classes}) == len(classes)


@pytest.mark.parametrize("nodes", [0, 7, -1])
def test_sizes_that_cannot_be_listed_are_refused(nodes):
    for listing in (labelled_dags, unlabelled_dags, unlabelled_classes, labelled_classes, valid_of_classes):
        with pytest.raises(RequestError, match=f"graphs of {nodes} nodes cannot be listed: choose 1 to 6"):
            listing(nodes)
