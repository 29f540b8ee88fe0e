"""The way in and the only way out: every error of a command becomes its text on stderr and its exit code here.

Exit codes: 0 done, 1 a task failed, 2 usage or manifest, 3 `--check` or `--frozen` found work to do, 4 store or disk,
130 interrupted; 141 where the reader of stdout went away, as for any program that a closed pipe ends.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import typer
from typer.main import get_command

from maxbuild.cli.commands import LazyGroup, new_app
from maxbuild.cli.usage import usage_error
from maxbuild.errors import MaxbuildError
from maxbuild.report.blocks import error_text
from maxbuild.report.terminal import Style, Terminal, terminal_of

USAGE = 2
INTERRUPTED = 130
CLOSED_PIPE = 141
_OBJECTS_BEFORE_COLLECTION = 100_000
GOES_ON = "interrupted: the next `warm` goes on from here"

app = new_app(LazyGroup, no_args_is_help=True)


def _show_version(wanted: bool) -> None:
    if wanted:
        # Imported here: the metadata of packages is read for this alone.
        from maxbuild.cli.version import version_text  # noqa: PLC0415

        typer.echo(version_text())
        raise typer.Exit


@app.callback()
def maxbuild(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the versions that matter and exit."
        ),
    ] = False,
) -> None:
    """Build packages that an inference server loads with no download and no compile, from one manifest."""


def run() -> None:
    """Carry out the command line of this process, and end the process with the exit code.

    Taking the interpreter down costs a sixth of a command that finds nothing to do, and the system reclaims the same in
    no time. Where torch was loaded, it has temporary files of its own to remove, so the interpreter goes the long way.
    """
    code = main()
    if "torch" in sys.modules:
        sys.exit(code)
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out the command line (`sys.argv` where no `arguments` are given) and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # What imports make comes to stay; looking through it for garbage again and again costs a tenth of a null build.
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTION, *gc.get_threshold()[1:])
    return settle(lambda talk: _carry_out(given, talk))


def settle(work: Callable[[Terminal], int]) -> int:
    """Do `work`, which may talk on stderr, and return its exit code, or that of the error it ends with."""
    _never_fail_to_print()
    talk = terminal_of(sys.stderr, os.environ)
    try:
        with _plain_warnings(talk), _termination_as_interrupt():
            code = work(talk)
            sys.stdout.flush()
            return code
    except BrokenPipeError:
        _forget_stdout()
        return CLOSED_PIPE
    except MaxbuildError as error:
        return _tell(error, talk)
    except KeyboardInterrupt:
        talk.write(GOES_ON)
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - whatever it is, it has one form and one code
        talk.write(traceback.format_exc().rstrip())
        bug = MaxbuildError(
            "internal error",
            causes=[traceback.format_exception_only(error)[-1].strip()],
            hint="this is a mistake in maxbuild: please report it with the lines above",
        )
        return _tell(bug, talk)


def _carry_out(arguments: list[str], talk: Terminal) -> int:
    command: Any = get_command(app)
    try:
        with command.make_context("maxbuild", arguments) as context:
            command.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # not public, as little as the mistakes in `usage`
            talk.write(error.message)
            return USAGE
        raise usage_error(error) from error
    return 0


def _tell(error: MaxbuildError, talk: Terminal) -> int:
    talk.write(error_text(error, talk))
    return error.exit_code


@contextmanager
def _plain_warnings(talk: Terminal) -> Iterator[None]:
    """Show warnings as a line of talk, without the place in the code that gives them."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        talk.write(f"{talk.paint('warning:', Style.YELLOW)} {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, which a cancelled CI job gets, end a build as Ctrl-C does: children stopped, scratch gone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _never_fail_to_print() -> None:
    """Escape what a stream's encoding lacks instead of failing half-way through a message."""
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")


def _forget_stdout() -> None:
    """Point stdout at nothing, so that what is still in its buffer does not fail at exit."""
    with suppress(OSError, ValueError):  # a stream that has no descriptor has no such trouble
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
