"""The one place where errors become messages and exit codes."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ..errors import ConditionError, CrpKitError, CrpKitWarning
from ..printable import printable

if TYPE_CHECKING:
    from ..views.report import BuiltReport

__all__ = ["MISTAKE", "CrpGroup", "in_options", "say", "say_report"]

MISTAKE = 2
_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
_BROKEN_PIPE = 141  # 128 + SIGPIPE


def say(message: str) -> None:
    """Print a message to stderr; names in it may come from other people's files."""
    click.echo(printable(message, keep="\n"), err=True)


def say_report(report: BuiltReport) -> None:
    """Print to stderr how large a report is, and the address that opens it."""
    size = f"{report.concepts} concepts, {report.size / 1e6:.1f} MB, {report.seconds:.0f} seconds"
    say(f"report ({size}): open {report.index.resolve().as_uri()}")


class CrpGroup(click.Group):
    """A click group whose errors are one line ``crp-kit: error: …`` on stderr and exit code 2, never a traceback.

    Errors that crp-kit does not raise on purpose (its own bugs) do keep their traceback.
    """

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        run: Callable[..., Any] = super().main
        if not standalone_mode:
            return run(*args, standalone_mode=False, **extra)
        _let_names_through()
        with warnings.catch_warnings():
            _show_own_warnings()
            try:
                result = run(*args, standalone_mode=False, **extra)
            except click.exceptions.NoArgsIsHelpError as error:
                say(error.format_message())
                sys.exit(MISTAKE)
            except click.UsageError as error:
                path = error.ctx.command_path if error.ctx else "crp-kit"
                said = error.format_message().rstrip(".")
                _fail(f"{said}{' See' if said.endswith('?') else '; see'} {path} --help")
            except click.ClickException as error:
                _fail(error.format_message())
            except click.Abort as error:
                say(f"crp-kit: {in_options(str(error.__cause__ or '')) or 'interrupted'}")
                sys.exit(_INTERRUPTED)
            except ConditionError as error:  # may show below a condition where it is wrong
                _fail(in_options(str(error)))
            except CrpKitError as error:
                _fail(" ".join(in_options(str(error)).split("\n")))
            except OSError as error:
                _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        sys.exit(result if isinstance(result, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever read the output has enough. What is still buffered must not fail again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(_BROKEN_PIPE)
        return result


_OPTIONS = {
    "crp_kit.get_layer_names": "crp-kit layers --graph",
    "; overwrite replaces": "; --overwrite replaces",
    "; resume continues it, overwrite starts again": "; --resume continues it, --overwrite starts again",
    "; resume continues from there": "; --resume continues from there",
    "; skip_unreadable leaves": "; --skip-unreadable leaves",
    "by target='prediction'": "with --target prediction",
    "target='prediction'": "--target prediction",
    "target='masks'": "--target masks",
    "target='regions'": "--target regions",
    "name it with class_axis=...": "name it with --class-axis",
    "as in {layer: concept}": "as in --concept LAYER=FILE",
    "by class_map": "with --class-map FILE",
    "beside their model, as weights": "beside their model, with --weights",
    "CondAttribution(model, class_axis=...)": "--class-axis",
    "CondAttribution(model, output=...)": "--model-output, or a factory that returns "
    "crp_kit.LoadedModel(model, output=...)",
}
"""How the library's advice is said on the command line."""


def in_options(message: str) -> str:
    """Return a message whose advice is said in the words of the command line."""
    for ours, theirs in _OPTIONS.items():
        message = message.replace(ours, theirs)
    return message


def _fail(message: str) -> NoReturn:
    say(f"crp-kit: error: {message}")
    sys.exit(MISTAKE)


def _let_names_through() -> None:
    """Let names of files that are no UTF-8 be printed as the bytes that they are, whatever the locale."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="surrogateescape")


def _show_own_warnings() -> None:
    """Print crp-kit's warnings as one line each; leave other warnings as they are."""
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, CrpKitWarning):
            say(f"crp-kit: warning: {message}")
        else:
            usual(message, category, *place, **more)

    warnings.showwarning = show
