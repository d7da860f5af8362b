"""Every annotation of the package is checked while tests run; here, so that checking takes a part of the time only.

jaxtyping's import hook puts `jaxtyping.jaxtyped(typechecker=...)` on every function of the package. That writes two
checkers for each function, for one inside another each time it is made, and binds the arguments of every call to look
for sizes of axes, also where no array is. Here a function of arrays gets one checker inside jaxtyping's scope of sizes,
any other the checker alone, and the checker of a function inside another is written once. What is checked is the same:
every argument, and what is returned.
"""

from collections.abc import Callable, Iterator
from functools import partial, update_wrapper
from types import CodeType, FunctionType
from typing import Any, ForwardRef, get_args

import jaxtyping
from beartype import beartype
from beartype.roar import BeartypeDecorHintException
from jaxtyping import AbstractArray

WHOLE = jaxtyping.jaxtyped
"""jaxtyping's own."""
Checker = tuple[FunctionType, str] | None
"""A written checker, and which of its arguments is the function that it checks; None: that cannot be told."""
_written: dict[tuple[str, CodeType], Checker] = {}


def install() -> None:
    """Before the package is imported."""
    jaxtyping.jaxtyped = checked


def checked(fn: Any = None, *, typechecker: Callable[..., Any]) -> Any:
    """`fn`, which raises when it is called with, or returns, what its annotations do not allow."""
    if fn is None:
        return partial(checked, typechecker=typechecker)
    if isinstance(fn, type):  # of a dataclass, the fields; its methods were decorated by themselves
        made = vars(fn).get("__init__")
        if hasattr(fn, "__dataclass_fields__") and isinstance(made, FunctionType) and not hasattr(made, "__wrapped__"):
            fn.__init__ = checked(made, typechecker=typechecker)  # type: ignore[misc]
        return fn
    if not isinstance(fn, FunctionType):
        return WHOLE(fn, typechecker=typechecker)
    found = [p for a in fn.__annotations__.values() for p in parts(a)]
    if any(isinstance(p, str | ForwardRef) for p in found):  # names that only a type checker knows
        return WHOLE(fn, typechecker=typechecker)
    try:
        one = written(fn) if "<locals>" in fn.__qualname__ else beartype(fn)
    except BeartypeDecorHintException:
        return WHOLE(fn, typechecker=typechecker)
    if any(isinstance(p, type) and issubclass(p, AbstractArray) for p in found):
        return WHOLE(one, typechecker=None)
    return one


def parts(annotation: Any) -> Iterator[Any]:
    """An annotation and all that it is made of, as far as `typing` tells."""
    yield annotation
    for inner in annotation if isinstance(annotation, list) else get_args(annotation):
        yield from parts(inner)


def written(fn: FunctionType) -> Any:
    """beartype's checker of a function inside another, which is made anew with each call of the other."""
    if not fn.__annotations__:
        return fn
    key = (fn.__module__, fn.__code__)
    if key not in _written:
        one = beartype(fn)
        given = one.__kwdefaults__ or {} if one is not fn else {}
        names = [name for name, value in given.items() if value is fn]
        _written[key] = (bound(one, names[0], None), names[0]) if len(names) == 1 else None
        return one
    known = _written[key]
    return beartype(fn) if known is None else update_wrapper(bound(*known, fn), fn)


def bound(checker: FunctionType, name: str, fn: FunctionType | None) -> FunctionType:
    """A copy of a written checker for another function with the same code."""
    copy = FunctionType(checker.__code__, checker.__globals__, checker.__name__, checker.__defaults__)
    copy.__kwdefaults__ = {**(checker.__kwdefaults__ or {}), name: fn}
    return copy
