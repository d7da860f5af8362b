"""`arithcirc`: the commands, and what becomes of errors.

Exit codes: 0 done; 2 a bad request (one clear line); 1 anything else. ARITHCIRC_DEBUG=1 shows tracebacks.
"""

import os
import shlex
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from arithcirc.cli import (
    analyze,
    axioms,
    check,
    compare,
    explore,
    export,
    influence,
    mechanism,
    models,
    show,
    sweep,
    train,
)
from arithcirc.cli.options import COMMAND_LINE
from arithcirc.errors import ArithcircError

HELP = "Find, prove and show the arithmetic circuits of decoder language models."


def build() -> App:
    """The application with all its commands."""
    app = App(
        name="arithcirc",
        help=HELP,
        help_format="plaintext",
        version_flags=["--version"],
        suppress_keyboard_interrupt=False,
    )
    app.command(analyze.analyze)
    app.command(analyze.prompts_command, name="prompts")
    app.command(analyze.localize_command, name="localize")
    app.command(analyze.faithfulness_command, name="faithfulness")
    for name in ("probe", "neurons", "heads", "heuristics", "knockout", "failures", "maps"):
        app.command(getattr(mechanism, f"{name}_command"), name=name)
    app.command(analyze.report_command, name="report")
    app.command(export.export_command, name="export")
    app.command(explore.explore)
    app.command(compare.compare_command, name="compare")
    app.command(compare.pairs_command, name="pairs")
    app.command(sweep.sweep_command, name="sweep")
    app.command(train.train)
    app.command(influence.app)
    app.command(axioms.app)
    app.command(models.models)
    app.command(check.check)
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; every failure is one line on stderr."""
    COMMAND_LINE.set(shlex.join(["arithcirc", *arguments]))
    try:
        build()(list(arguments), exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return _fail(f"{error} (see 'arithcirc --help')", 2)
    except ArithcircError as error:
        return error.exit_code if _said_already(error) else _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted: finished stages are kept, the same command goes on where this stopped", 1)
    except BrokenPipeError:
        return 1
    except Exception as error:
        if os.environ.get("ARITHCIRC_DEBUG"):
            raise
        kind = type(error).__name__
        return _fail(f"unexpected {kind}: {error} - please report it; ARITHCIRC_DEBUG=1 shows where", 1)
    return 0


def _said_already(error: ArithcircError) -> bool:
    """Whether this is a bad request to several processes that torchrun or accelerate launch started.

    It is the same for all of them, and the first says it.
    """
    return error.exit_code == 2 and os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK", "0") != "0"


def _fail(message: str, code: int) -> int:
    show.err.print(f"arithcirc: {' '.join(message.split())}", markup=False)
    return code


def main() -> None:
    """Entry point of the console script."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads sleep: other programs halve the speed otherwise
    sys.exit(run(sys.argv[1:]))
