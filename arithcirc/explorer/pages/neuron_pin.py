"""The pin of page Neuron: pinned at once by its button, its note saved when the field is left."""

from typing import Any

import dash
import dash_mantine_components as dmc

from arithcirc.components import Neuron
from arithcirc.errors import EnvironmentFailure, RequestError
from arithcirc.explorer.context import Context
from arithcirc.explorer.pages.neuron_facts import Facts
from arithcirc.explorer.pins import pin_of, remove_pin, savable, set_pin
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View


def button(view: View, source: Source, found: Facts) -> Any:
    """A button that pins at once and opens the pin's note, which is saved when its field is left."""
    pin = pin_of(source, found.operator, found.neuron)
    can = savable(source)
    note = dmc.Textarea(
        id=view.part("neuron-note"), value=pin.note if pin else "", placeholder="a note, kept beside the run",
        autosize=True, minRows=2, maxRows=8, size="xs", disabled=not can, debounce=True, **{"aria-label": "note"},
    )  # fmt: skip
    small = {"size": "compact-xs", "disabled": not can}
    buttons = dmc.Group(
        [
            dmc.Button(
                "remove", id=view.part("neuron-unpin"), color="gray", variant="light", style=_if(pin is not None),
                **small,
            ),
            dmc.Text(
                "saved when you leave the field" if can
                else "this folder cannot be written: page Neurons downloads its pins", size="xs", c="dimmed",
            ),
        ],
        gap=8, mt=6,
    )  # fmt: skip
    target = dmc.Button(
        "pinned" if pin else "pin", id=view.part("neuron-pinned"), size="compact-sm",
        variant="filled" if pin else "default",
    )  # fmt: skip
    return dmc.Popover(
        [dmc.PopoverTarget(target), dmc.PopoverDropdown([note, buttons])],
        width=320, position="bottom-end", shadow="md", withArrow=True, trapFocus=True, keepMounted=True,
    )  # fmt: skip


def _if(shown: bool) -> dict[str, str]:
    return {} if shown else {"display": "none"}


def saved(context: Context, pin: Any, remove: Any, note: Any, who: Any, data: Any) -> tuple[Any, Any, Any, Any]:
    """Pin, save the note, or remove the pin; the button says which it is."""
    source, view = context.source(data), View.of(data)
    neuron, asked = who_of(who), (dash.ctx.triggered_id or {}).get("type")
    nothing = (dash.no_update,) * 4
    if not savable(source):
        return nothing
    held = pin_of(source, view.op, neuron)
    if asked == "neuron-unpin" and remove:
        remove_pin(source, view.op, neuron)
        return "pin", "default", "", _if(False)
    opens = asked == "neuron-pinned" and (not pin or held is not None)  # the note of one pinned before
    if opens or asked == "neuron-unpin" or (held is None and not (pin or note)):
        return nothing
    try:
        set_pin(source, view.op, neuron, str(note or ""))
    except EnvironmentFailure as error:
        raise RequestError(str(error)) from None
    return "pinned", "filled", dash.no_update, _if(True)


def who_of(who: Any) -> Neuron:
    """The neuron a page was drawn for. Raises RequestError for what is none."""
    layer, index = (who.get(k) if isinstance(who, dict) else None for k in ("layer", "neuron"))
    if not isinstance(layer, int) or not isinstance(index, int):
        raise RequestError("this neuron cannot be read: reload the page")
    return Neuron(layer, index)
