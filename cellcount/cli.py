"""The ``cellcount`` command: imports commands when needed, turns every error into an exit code.

Only click and the standard library are imported here, so that ``cellcount --help`` answers at once.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

import click

from cellcount import __version__
from cellcount.errors import (
    EXIT_INTERRUPTED,
    EXIT_NOTHING_DONE,
    EXIT_OK,
    EXIT_TERMINATED,
    CellcountError,
)

PROGRAM = "cellcount"
COMPLETION_VARIABLE = "_CELLCOUNT_COMPLETE"
# What a shell reports for a process that SIGPIPE ended, for instance in `cellcount … | head -1`.
EXIT_BROKEN_PIPE = 141

# At its end Python would look for garbage among all that torch consists of.
atexit.register(gc.freeze)


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: ends the work as Ctrl-C does, with another exit code."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are needed.

    Args:
        lazy: command name -> ``"module:attribute"``, in the order that help shows.
    """

    def __init__(self, name: str, *, lazy: Mapping[str, str], **attributes: object) -> None:
        super().__init__(name, **attributes)  # type: ignore[arg-type]  # click checks them
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the table, then those added eagerly."""
        return [*self.lazy, *(name for name in self.commands if name not in self.lazy)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of a name; None where there is none."""
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self.lazy[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command), f"{self.lazy[cmd_name]} is no click command"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of a name; the error for an unknown name suggests the nearest one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            if not near or "Did you mean" in error.message:
                raise
            told = f"{error.message.rstrip('.')}. Did you mean {near[0]!r}?"
            raise click.UsageError(told, ctx=error.ctx) from None


def _subgroup(name: str, help_text: str, *commands: str, **elsewhere: str) -> LazyGroup:
    """Make a group; ``train`` with ``detector`` finds ``cellcount.commands.train:train_detector``.

    Further commands may name their module: ``compare="models_compare"``.
    """
    lazy = {c: f"cellcount.commands.{name}:{name}_{c}" for c in commands}
    lazy |= {c: f"cellcount.commands.{module}:{name}_{c}" for c, module in elsewhere.items()}
    return LazyGroup(name, lazy=lazy, help=help_text, no_args_is_help=True)


cli = LazyGroup(
    PROGRAM,
    lazy={
        "analyze": "cellcount.commands.analyze:analyze",
        "classify": "cellcount.commands.classify:classify",
        "merge": "cellcount.commands.merge:merge",
        "doctor": "cellcount.commands.doctor:doctor",
    },
    help=(
        "Counts blood cells in smear images: folders in, tables out, nothing leaves this "
        "machine.\n\n"
        "For research use only; not for diagnosis."
    ),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    params=[
        click.Option(
            ["--debug"],
            is_flag=True,
            expose_value=False,
            help="Show the full trace of an error and log more; works anywhere on the line.",
        )
    ],
    no_args_is_help=True,
)
click.version_option(__version__, prog_name=PROGRAM)(cli)
cli.add_command(_subgroup("train", "Train a model on annotated images.", "detector", "classifier"))
cli.add_command(
    _subgroup("adapt", "Fit a model to a laboratory's own cells.", "classifier", "detector")
)
cli.add_command(
    _subgroup(
        "evaluate", "Measure models, and compare methods of counting.",
        "detector", "classifier", counts="evaluate_counts", repeatability="evaluate_counts",
    )
)  # fmt: skip
cli.add_command(
    _subgroup(
        "datasets", "Make, look at and convert annotated images.", "inspect", "convert", "render",
        types="datasets_types",
    )
)  # fmt: skip
cli.add_command(
    _subgroup(
        "models", "List, show, check, compare, export and explain models.", "list", "show", "check",
        compare="models_compare", export="models_export", explain="models_explain",
    )
)  # fmt: skip
cli.add_command(
    _subgroup("review", "Have a person look at cells and count by it.", "open", "export", "apply")
)
cli.add_command(_subgroup("control", "Check a slide of known cells every day.", "run", "history"))
cli.add_command(_subgroup("profiles", "List, show and check profiles.", "list", "show", "check"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line (``sys.argv`` by default) and returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug, given = _take_debug(given)
    _prepare_streams(debug=debug)
    try:
        with _sigterm_raises():
            code = _invoke(given)
            sys.stdout.flush()  # here, where a broken pipe can still be handled
            return code
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        return _close_broken_pipe()
    except Terminated:
        click.echo("Terminated.", err=True)
        return EXIT_TERMINATED
    except (KeyboardInterrupt, click.Abort):
        click.echo("\nInterrupted.", err=True)
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 -- the last stop: no traceback reaches a user unasked
        return _explain(error, debug=debug)


def _invoke(arguments: list[str]) -> int:
    """Run the command without click's own error handling; a command returns its exit code."""
    instruction = os.environ.get(COMPLETION_VARIABLE)
    if instruction:
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, PROGRAM, COMPLETION_VARIABLE, instruction)
    with cli.make_context(PROGRAM, arguments) as context:
        result = cli.invoke(context)
    return result if isinstance(result, int) else EXIT_OK


def _take_debug(arguments: list[str]) -> tuple[bool, list[str]]:
    """Take ``--debug`` out of the arguments, wherever it stands before a ``--``."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [a for a in arguments[:end] if a != "--debug"]
    return len(kept) < end, kept + arguments[end:]


def _prepare_streams(*, debug: bool) -> None:
    """Logging goes to stderr; a file name that the terminal cannot show never ends a run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="%(levelname)s: %(message)s", stream=sys.stderr)
    logging.getLogger(PROGRAM).setLevel(logging.DEBUG if debug else logging.WARNING)


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """While it lasts SIGTERM raises ``Terminated`` in the main thread."""

    def terminate(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not in the main thread, where handlers cannot be set
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _explain(error: Exception, *, debug: bool) -> int:
    """Print an error and return the exit code; the traceback appears only with ``--debug``."""
    if debug:
        import traceback

        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    if isinstance(error, CellcountError):
        click.echo(f"Error: {error}", err=True)
        return error.exit_code
    first_line = (str(error).splitlines() or [""])[0]
    advice = "" if debug else "; run again with --debug for the full trace"
    click.echo(f"Error: unexpected {type(error).__name__}: {first_line}{advice}", err=True)
    return EXIT_NOTHING_DONE


def _close_broken_pipe() -> int:
    """Leave quietly when the reader of stdout has gone, also when Python flushes at exit."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    return EXIT_BROKEN_PIPE
