"""The two sides of a comparison: what each is, how B is chosen, and what may be compared at all."""

from dataclasses import dataclass

from arithcirc.explorer.context import Context
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View
from arithcirc.viz import theme
from arithcirc.viz.operator_facts import Facts, gather

PARAMETERS = ("with", "with_model", "with_revision", "with_op")


@dataclass(frozen=True)
class Side:
    """A or B: a source and an operator of it."""

    name: str
    source: Source
    op: str
    facts: Facts

    @property
    def title(self) -> str:
        """For people: model, revision and operator."""
        return f"{self.source.title}, {theme.OPERATOR_NAMES.get(self.op, self.op)}"

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """Layers, heads, MLP width; None where the run does not record them."""
        held = [self.source.model.get(name) for name in ("n_layers", "n_heads", "d_mlp")]
        return None if None in held else (int(held[0]), int(held[1]), int(held[2]))  # type: ignore[arg-type]

    @property
    def model(self) -> str:
        """The model's name, without the revision."""
        at = self.source.checkpoint
        return str(self.source.model.get("name") or (at.model if at else self.source.key))

    @property
    def view(self) -> View:
        """The address that shows it, on this page."""
        held = self.where
        return View("compare", held["run"], held["model"], held["revision"], held["op"])

    @property
    def where(self) -> dict[str, str]:
        """Parameters of an address that show it."""
        at = self.source.checkpoint
        return {
            "run": self.source.key,
            "model": at.model if at else "",
            "revision": at.revision if at else "",
            "op": self.op,
        }


def side(name: str, source: Source, op: str) -> Side:
    """A side with what was found for its operator."""
    return Side(name, source, op, gather(source, op).get(op, Facts(op)))


def other(view: View, source: Source) -> View:
    """The address of B: what the address asks for, by default an early checkpoint or the next operator."""
    asked = {name: view.choices.get(name, "") for name in PARAMETERS}
    run = asked["with"] or source.key
    if asked["with"] or any(asked.values()):
        return View("compare", run, asked["with_model"], asked["with_revision"], asked["with_op"])
    at = source.checkpoint
    if at is not None:
        held = [c for c in source.checkpoints if c.model == at.model]
        place = held.index(at)
        rival = held[place - 1] if place else held[-1]
        return View("compare", run, rival.model, rival.revision, view.op)
    operators = source.operators
    following = operators[(operators.index(view.op) + 1) % len(operators)] if view.op in operators else view.op
    return View("compare", run, op=following)


def sides(context: Context, view: View, source: Source) -> tuple[Side, Side]:
    """A as the header has it, and B. Raises what opening B raises."""
    wanted = other(view, source)
    rival = context.library.open(wanted)
    op = wanted.op if wanted.op in rival.operators else view.op
    op = op if op in rival.operators else next(iter(rival.operators), "")
    return side("A", source, view.op), side("B", rival, op)


def swapped(view: View, a: Side, b: Side) -> str:
    """The address with A and B exchanged."""
    back = {"with": a.where["run"], "with_model": a.where["model"], "with_revision": a.where["revision"]}
    return view.url(**b.where, **back, with_op=a.op)


def same_shape(a: Side, b: Side) -> bool:
    """Heads and neurons can be put on each other."""
    return a.shape is not None and a.shape == b.shape


def comparability(a: Side, b: Side) -> str:
    """What the two have in common, and what follows for reading the page."""
    if a.where == b.where:
        return "Both sides are the same: choose another run, checkpoint or operator for B."
    if a.shape is None or b.shape is None:
        return "A side does not record its model’s shape: heads and neurons are matched by index as far as they go."
    if not same_shape(a, b):
        (la, ha, na), (lb, hb, nb) = a.shape, b.shape
        return (
            f"Different architectures ({la} layers × {ha} heads, {na:,} neurons each, against {lb} × {hb}, {nb:,}): "
            "heads and neurons do not correspond, so differences of maps, matched neurons and their overlap are left "
            "out. Accuracy, circuit size, faithfulness and families compare."
        )
    if a.model != b.model:
        return (
            "Same shape, different models: the same index names unrelated heads and neurons unless one was trained "
            "from the other, so expect overlap at chance."
        )
    first, second = a.source.title, b.source.title
    if first != second:
        return f"Two checkpoints of {a.model}: an index is the same head or neuron at another time of training" + (
            ", and the operators differ as well." if a.op != b.op else "."
        )
    if a.op != b.op:
        return "One model, two operators: the same heads and neurons, asked to do different things."
    return "The same model and operator, analysed twice: differences are those of the settings or of the prompts drawn."
