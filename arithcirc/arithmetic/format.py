"""How a prompt is written, and where its numbers stand among its characters.

A space at the end of a template belongs to the answer: in most training text `= 158` is read as `=` and ` 158`, so a
prompt that ends in a space would end in a token that this text does not have.
"""

import re
from dataclasses import dataclass

from arithcirc.errors import PromptError

SLOTS = ("op1", "operator", "op2")


@dataclass(frozen=True)
class PromptFormat:
    """How a prompt is written: `prefix` (few-shot examples, kept as they are) then `template`, ending in `=`.

    Spaces at the end of the template are written before the answer (`gap`), not in the prompt (`body`).
    """

    prefix: str = ""
    template: str = "{op1}{operator}{op2}="

    def __post_init__(self) -> None:
        if re.findall(r"\{\w+\}|[{}]", self.template) != ["{" + slot + "}" for slot in SLOTS]:
            raise PromptError(
                f"template {self.template!r} needs {{op1}}, {{operator}} and {{op2}} once each, in this order, and no "
                "other braces"
            )
        if self.body.endswith("{op2}"):
            raise PromptError(f"template {self.template!r} must end after op2 with the text the answer follows, as '='")

    @property
    def body(self) -> str:
        """The template without the spaces at its end."""
        return self.template.rstrip(" ")

    @property
    def gap(self) -> str:
        """The spaces at the template's end: written before the answer."""
        return self.template[len(self.body) :]

    def text(self, op1: int | str, symbol: str, op2: int | str) -> str:
        """One prompt as the model reads it, without the spaces at the template's end."""
        return self.prefix + self.body.format(op1=op1, operator=symbol, op2=op2)

    def spans(self, op1: int | str, symbol: str, op2: int | str) -> dict[str, tuple[int, int]]:
        """Character spans of op1, operator and op2 in `text(...)`."""
        values = {"op1": str(op1), "operator": symbol, "op2": str(op2)}
        spans, cursor = {}, len(self.prefix)
        rest = self.body
        for slot in SLOTS:
            before, _, rest = rest.partition("{" + slot + "}")
            cursor += len(before)
            spans[slot] = (cursor, cursor + len(values[slot]))
            cursor += len(values[slot])
        return spans
