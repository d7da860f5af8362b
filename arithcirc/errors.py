"""Exceptions.

    ArithcircError                 anything this package raises on purpose; its text is one line
    ├── RequestError               the request cannot be met as written (exit code 2)
    │   ├── ModelError             unknown, incomplete or refused model
    │   ├── TokenizerError         the tokenizer does not fit the prompts
    │   ├── PromptError            operands, operators, templates, pairs files
    │   ├── NumericsError          the model's numbers are not usable (NaN, infinite)
    │   └── RunConflictError       the run folder holds something else
    ├── SweepIncomplete            some tasks of a sweep failed or did not run; the rest is there (exit code 1)
    ├── TrainingStopped            a training was stopped as asked, and can go on (exit code 1)
    └── EnvironmentFailure         the machine failed us: disk, permissions, memory (exit code 1)

Every message says what was given, what is allowed and what to do next, in one line.
"""


class ArithcircError(Exception):
    """Base of every error raised on purpose. Its text is one line, meant for the user."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class RequestError(ArithcircError):
    """The request cannot be met as written."""

    exit_code = 2


class ModelError(RequestError):
    """A model that is unknown, incomplete, or refused (pickled weights)."""


class TokenizerError(RequestError):
    """A tokenizer that cannot place operands, operators or answers on single tokens."""


class PromptError(RequestError):
    """Operands, operators, templates or a pairs file that do not make sense."""


class NumericsError(RequestError):
    """The model produced NaN or infinite numbers."""


class RunConflictError(RequestError):
    """The run folder belongs to another configuration, or is damaged."""


class EnvironmentFailure(ArithcircError):
    """The machine failed: disk full, no permission, out of memory."""

    exit_code = 1


class SweepIncomplete(ArithcircError):
    """Some tasks of a sweep failed or did not run; what the others found is on disk."""

    exit_code = 1


class TrainingStopped(ArithcircError):
    """A training was stopped as asked before its end; it goes on from there."""

    exit_code = 1
