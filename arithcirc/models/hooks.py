"""Forward hooks that put things back: seeing, replacing and narrowing what modules read and write.

Every hook here is a context manager that removes itself, so a model is left as it was found.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from arithcirc.models.protocol import KnownMlp


def first_of(output: Any) -> Tensor:
    """Blocks return a tensor or a tuple that starts with it."""
    tensor: Tensor = output[0] if isinstance(output, tuple) else output
    return tensor


class _Stop(Exception):
    """Ends a forward once what was wanted has been seen."""


def stop_after(into: list[Tensor]) -> Callable[[Tensor], None]:
    """A `see` that keeps what it is shown and ends the forward; use it inside `stopped()`."""

    def see(x: Tensor) -> None:
        into.append(x)
        raise _Stop

    return see


@contextmanager
def stopped() -> Iterator[None]:
    """Leave the context at `stop_after`, whatever was running."""
    try:
        yield
    except _Stop:
        return


def _input_of(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Tensor:
    tensor: Tensor = arguments[0] if arguments else keywords["hidden_states"]
    return tensor


@contextmanager
def seeing_input(module: nn.Module, see: Callable[[Tensor], Any]) -> Iterator[None]:
    """Show `see` what the module reads."""

    def hook(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        see(_input_of(arguments, keywords).detach())

    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def replacing_input(module: nn.Module, change: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Let `change` replace what the module reads; None keeps it."""

    def hook(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        changed = change(arguments[0])
        return None if changed is None else (changed, *arguments[1:])

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def seeing_output(module: nn.Module, see: Callable[[Tensor], Any]) -> Iterator[None]:
    """Show `see` what the module writes."""

    def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        see(first_of(output).detach())

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def narrowed(mlp: nn.Module, writer: nn.Module, known: KnownMlp | None) -> Iterator[None]:
    """Run an MLP only on the tokens whose output is not known; it is position-wise, so this changes no number.

    `writer` is the module whose output enters the residual stream: the MLP, or the norm after it.
    """
    if known is None:
        yield
        return

    def gather(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        tokens = arguments[0].flatten(0, 1)
        return (tokens[known.run.to(tokens.device)], *arguments[1:])

    def scatter(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        ran = first_of(output)
        whole = known.output.to(ran.device, memory_format=torch.contiguous_format, copy=True)
        whole.view(-1, whole.shape[-1])[known.run.to(ran.device)] = ran
        return (whole, *output[1:]) if isinstance(output, tuple) else whole

    handles = (mlp.register_forward_pre_hook(gather), writer.register_forward_hook(scatter))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
