"""Results of ``crp-kit evaluate`` in files: saved, resumed after an interruption, and shown again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import InputError
from .files import check_outputs
from .group import say
from .table_output import check_table_output, figure_options, print_table

if TYPE_CHECKING:
    from ..evaluation import Evaluation, FlippingCurves
    from ..result_table import Table
    from ..study import Study

__all__ = ["check_saving", "curve_table", "evaluated", "result_options", "show"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_SAVE = click.option(
    "--save",
    type=click.Path(path_type=Path),
    metavar="FILE.npz",
    help="Also keep the result in a small file, with the fingerprints of model and data: crp-kit evaluate show.",
)
_RESUME = click.option(
    "--resume", is_flag=True, help="Go on where an interrupted run with the same --save and settings stopped."
)


def result_options(command: _Command) -> _Command:
    """Add the options of a result that is saved."""
    return _SAVE(_RESUME(command))


def check_saving(options: Mapping[str, Any]) -> None:
    """Refuse a result that could not be saved or resumed, before any work is done.

    Raises
    ------
    InputError
        If there is one.
    """
    save, overwrite = options["save"], options["overwrite"]
    if save is None:
        if options["resume"]:
            raise InputError("--resume needs --save FILE.npz, beside which an interrupted run keeps what is done")
        return
    if save.suffix != ".npz":
        raise InputError(f"--save needs a file name that ends with .npz; got {str(save)!r}")
    check_outputs([save, *filter(None, [options.get("output")])], overwrite=overwrite)
    partial = _partial(save)
    if partial.exists() and not (options["resume"] or overwrite):
        raise InputError(
            f"an interrupted evaluation of {save} lies in {partial}; --resume continues it, --overwrite starts again"
        )


def evaluated(study: Study, options: Mapping[str, Any], measure: Callable[[Evaluation], Any]) -> Any:
    """Return what an evaluation gives, saved and resumed as the options say.

    Raises
    ------
    InputError
        If what was done belongs to another evaluation, or a file cannot be written.
    """
    from ..evaluation.step_log import remove_log

    save: Path | None = options["save"]
    if save is None:
        return measure(study.evaluate)
    partial = _partial(save)
    if not options["resume"]:
        remove_log(partial)
    result = measure(study.evaluate.resumable(partial))
    study.evaluate.save(result, save, overwrite=options["overwrite"])
    remove_log(partial)
    say(str(save))
    return result


def _partial(save: Path) -> Path:
    return save.with_name(f"{save.name}.partial")


@click.command(short_help="Show saved results, and join shards.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--curves", is_flag=True, help="Print the curves of flipping or insertion instead of the areas.")
@figure_options
def show(files: Sequence[Path], *, curves: bool, **options: Any) -> None:
    """Print a result that --save has kept, or draw it; several files are shards, or results to compare, of flipping.

    \b
    Example:
      crp-kit evaluate show part0.npz part1.npz -o flipping.png
    """  # noqa: D301
    from ..evaluation import FlippingCurves, load_result
    from ..result_table import Table

    check_table_output(options)
    stored = [load_result(path) for path in files]
    found = [one.result for one in stored if isinstance(one.result, FlippingCurves)]
    if len(found) == len(stored):
        if len({(one.model_sha256, one.data_sha256) for one in stored}) > 1:
            raise InputError("the files are of different models or data; show them one by one")
        _show_curves(found, options, whole=curves)
        return
    if len(stored) > 1 or curves:
        raise InputError("several files, and --curves, are for results of flipping and insertion")
    result = stored[0].result
    if options["output"] is not None and not hasattr(result, "plot"):
        raise InputError(f"{files[0]} is a {type(result).__name__}, of which there is no figure; leave out -o")
    table: Table = result if isinstance(result, Table) else result.summary
    print_table(table, options, getattr(result, "plot", None))


def _show_curves(found: Sequence[FlippingCurves], options: Mapping[str, Any], *, whole: bool) -> None:
    """Print curves or areas of shards that are joined; of several layers or rules beside each other."""
    from ..evaluation import joined_curves
    from ..views.plot import flipping_curves

    shards: dict[tuple[str, str], list[FlippingCurves]] = {}
    for curves in found:
        shards.setdefault((curves.layer, curves.settings["composite"]), []).append(curves)
    results = [joined_curves(parts) for parts in shards.values()]
    print_table(curve_table(results, whole=whole), options, lambda: flipping_curves(results))


def curve_table(results: Sequence[FlippingCurves], *, whole: bool) -> Table:
    """Return curves or areas; of several results with their layers and composites."""
    from ..evaluation import compared_areas, compared_curves

    if len(results) > 1:
        return compared_curves(results) if whole else compared_areas(results)
    table: Table = results[0].table if whole else results[0].summary
    return table
