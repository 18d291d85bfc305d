"""``crp-kit atlas markers``, ``contrast``, ``mistakes`` and others: statistical questions to an atlas, printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import InputError
from .atlas_ask import mode_option
from .options import atlas_layer_option, class_named
from .table_output import check_table_output, figure_options, print_table

if TYPE_CHECKING:
    from ..atlas import ConceptAtlas
    from ..atlas.query.layer_atlas import ScoreAtlas
    from ..atlas.query.selection import Selection

__all__ = ["contrast", "markers", "mistakes", "names", "outliers", "prototypes", "similar", "strategies"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_file = click.argument("file", type=click.Path(path_type=Path))
_class = click.option("--class", "cls", required=True, metavar="CLASS", help="Name, part of it, or number.")
_TRUTH = {"yes": True, "no": False, "true": True, "false": False}
_GROUP = "A class by name, part of it, or number, or attribute:NAME or attribute:NAME=VALUE."


def _where_options(command: _Command) -> _Command:
    """Add the options that choose the samples that count."""
    for option in reversed(
        (
            click.option("--label", metavar="CLASS", help="Only samples with this label."),
            click.option("--prediction", metavar="CLASS", help="Only samples that are predicted as this class."),
            click.option("--correct/--wrong", default=None, help="Only samples that are predicted right, or wrong."),
            click.option(
                "--attribute", metavar="NAME[=VALUE]", help="Only samples with this attribute, or this value of it."
            ),
        )
    ):
        command = option(command)
    return command


def _question(command: _Command) -> _Command:
    """Add what all questions to one layer have: file, layer, mode, samples, output."""
    return _file(atlas_layer_option(mode_option(_where_options(figure_options(command)))))


def _selection(atlas: ConceptAtlas, options: dict[str, Any]) -> Selection | None:
    """Return the samples that the options choose; None for all."""
    asked: dict[str, Any] = {
        name: class_named(options[name], atlas.classes) for name in ("label", "prediction") if options[name] is not None
    }
    if options["correct"] is not None:
        asked["correct"] = options["correct"]
    if options["attribute"] is not None:
        asked["attribute"] = _attribute(atlas, options["attribute"])
    return atlas.where(**asked) if asked else None


def _attribute(atlas: ConceptAtlas, text: str) -> dict[str, Any]:
    """Return the condition that a text such as ``ruler`` or ``hospital=B`` means."""
    name, equals, value = text.partition("=")
    if not equals:
        return {name: True}
    values = atlas.attributes.get(name)
    form = "" if values is None else values.dtype.kind
    if form == "b":
        if value.lower() not in _TRUTH:
            raise InputError(f"the attribute {name!r} is one of {', '.join(_TRUTH)}; got {value!r}")
        return {name: _TRUTH[value.lower()]}
    try:
        return {name: float(value) if form and form in "fiu" else value}
    except ValueError as error:
        raise InputError(f"the attribute {name!r} is a number; got {value!r}") from error


def _group(atlas: ConceptAtlas, text: str) -> int | str | Selection:
    """Return the group of samples that a text means: a class, or those with an attribute."""
    if text.startswith("attribute:"):
        return atlas.where(attribute=_attribute(atlas, text.removeprefix("attribute:")))
    return class_named(text, atlas.classes)


def _ask(file: Path, options: dict[str, Any], question: Callable[[ConceptAtlas, ScoreAtlas, Any], Any]) -> None:
    """Ask one layer and print the answer: a table that draws itself."""
    from ..atlas import ConceptAtlas

    check_table_output(options)
    with ConceptAtlas(file) as atlas:
        answer = question(atlas, atlas[options["layer"]].score(options["mode"]), _selection(atlas, options))
        print_table(answer, options, answer.plot)


@click.command(short_help="Concepts that mark a class.")
@_question
@_class
@click.option(
    "--top", type=click.IntRange(min=1), default=10, show_default=True, metavar="N", help="How many concepts."
)
def markers(*, file: Path, cls: str, top: int, **options: Any) -> None:
    """Print the concepts that are stronger in a class than in all others, the clearest first.

    \b
    Example:
      crp-kit atlas markers atlas.h5 --layer layer2.1.conv2 --class 3 --top 5
    """  # noqa: D301
    _ask(file, options, lambda atlas, scores, where: scores.markers(_group(atlas, cls), top, where))


@click.command(short_help="Concepts that differ between two groups of samples.")
@_question
@click.option("--a", "first", required=True, metavar="GROUP", help=_GROUP)
@click.option("--b", "second", metavar="GROUP", help="What --a is compared with, written like it.  [default: the rest]")
def contrast(*, file: Path, first: str, second: str | None, **options: Any) -> None:
    """Print how every concept differs between two groups of samples, or between one and the rest.

    \b
    Examples:
      crp-kit atlas contrast atlas.h5 --layer layer2.1.conv2 --a 0 --b 1 -o contrast.png
      crp-kit atlas contrast atlas.h5 --layer layer2.1.conv2 --a attribute:red --correct
    """  # noqa: D301
    _ask(
        file,
        options,
        lambda atlas, scores, where: scores.contrast(
            _group(atlas, first), None if second is None else _group(atlas, second), where
        ),
    )


@click.command(short_help="Concepts that are used otherwise where the model errs.")
@_question
@_class
@click.option("--taken-for", metavar="CLASS", help="Compare the samples that are taken for this class with its own.")
def mistakes(*, file: Path, cls: str, taken_for: str | None, **options: Any) -> None:
    """Print the concepts that differ between right and wrong predictions of a class.

    With --taken-for, between the samples of the class that are predicted as the other one, and that class's own.

    \b
    Example:
      crp-kit atlas mistakes atlas.h5 --layer layer2.1.conv2 --class 3 --taken-for 5
    """  # noqa: D301

    def ask(atlas: ConceptAtlas, scores: ScoreAtlas, where: Any) -> Any:
        label = class_named(cls, atlas.classes)
        if taken_for is None:
            return scores.mistakes(label, where)
        return scores.confusion(label, class_named(taken_for, atlas.classes), where)

    _ask(file, options, ask)


@click.command(short_help="Concepts that are used together.")
@_question
@click.option(
    "--metric",
    type=click.Choice(["pearson-within", "pearson", "cosine", "spearman"]),
    default="pearson-within",
    show_default=True,
    help="Similarity of two concepts over samples; pearson-within removes the mean of each class first.",
)
@click.option("--concept", type=click.IntRange(min=0), metavar="ID", help="The concepts nearest to this one.")
@click.option(
    "--top", type=click.IntRange(min=1), metavar="N", help="How many concepts.  [default: 10 nearest ones, else all]"
)
@click.option("--clusters", type=click.IntRange(min=1), metavar="N", help="The cluster of every concept, of N.")
def similar(
    *, file: Path, metric: Any, concept: int | None, top: int | None, clusters: int | None, **options: Any
) -> None:
    """Print the redundancy of every concept, the concepts nearest to one, or clusters of concepts.

    The redundancy of a concept is its largest similarity to another one.

    \b
    Examples:
      crp-kit atlas similar atlas.h5 --layer layer2.1.conv2
      crp-kit atlas similar atlas.h5 --layer layer2.1.conv2 --concept 24 --top 3
    """  # noqa: D301
    if concept is not None and clusters is not None:
        raise InputError("--concept and --clusters are two questions; leave one of them out")
    if top is not None and clusters is not None:
        raise InputError("--clusters has a row for every concept; leave --top out")
    from ..atlas import ConceptAtlas

    check_table_output(options)
    with ConceptAtlas(file) as atlas:
        scores = atlas[options["layer"]].score(options["mode"])
        answer = scores.similarity(metric, where=_selection(atlas, options))
        if concept is not None:
            nearest = answer.nearest(concept, top or 10)
            print_table(nearest, options, nearest.plot)
        elif clusters is not None:
            grouped = answer.clusters(clusters)
            print_table(grouped, options, grouped.plot)
        else:
            print_table(answer.redundancy().taken(slice(top)), options, answer.plot)


@click.command(short_help="Typical ways in which a class is recognised.")
@_question
@_class
@click.option(
    "-n",
    "count",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many prototypes.  [default: by the likelihood of held-out samples]",
)
def prototypes(*, file: Path, cls: str, count: int | None, **options: Any) -> None:
    """Print the prototypes of a class: components of a mixture over its samples, with their nearest samples.

    \b
    Example:
      crp-kit atlas prototypes atlas.h5 --layer layer2.1.conv2 --class 3
    """  # noqa: D301
    _ask(
        file,
        options,
        lambda atlas, scores, where: scores.prototypes(class_named(cls, atlas.classes), count, where=where),
    )


@click.command(short_help="Samples that are recognised in an unusual way.")
@_question
@click.option("--class", "cls", metavar="CLASS", help="Name, part of it, or number.  [default: all classes]")
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="How many samples.  [default: 20]")
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="OTHER",
    help="Print instead how well the scores separate the samples of this atlas of the same model.",
)
def outliers(*, file: Path, cls: str | None, top: int | None, against: Path | None, **options: Any) -> None:
    """Print the samples whose use of concepts is least ordinary for their class, the most extreme first.

    With --against, the AUROC of scores that separate the samples of another atlas, beside baselines.

    \b
    Example:
      crp-kit atlas outliers atlas.h5 --layer layer2.1.conv2 --class 3 --top 5
    """  # noqa: D301
    if against is not None and top is not None:
        raise InputError("--against has a row for every score; leave --top out")
    from ..atlas import ConceptAtlas

    def ask(atlas: ConceptAtlas, scores: ScoreAtlas, where: Any) -> Any:
        table = scores.outliers(None if cls is None else class_named(cls, atlas.classes), top or 20, where=where)
        if against is None:
            return table
        with ConceptAtlas(against) as other:
            return table.against(other[options["layer"]].score(options["mode"]))

    _ask(file, options, ask)


@click.command(short_help="Clusters of the samples of a class by the concepts that they use.")
@_question
@_class
@click.option(
    "-n", "count", type=click.IntRange(min=1), metavar="N", help="How many clusters.  [default: by the eigengap]"
)
def strategies(*, file: Path, cls: str, count: int | None, **options: Any) -> None:
    """Print the cluster of every sample of a class (spectral clustering, SpRAy), and its coordinates in a plane.

    \b
    Example:
      crp-kit atlas strategies atlas.h5 --layer layer2.1.conv2 --class 3 -o strategies.png
    """  # noqa: D301
    _ask(
        file,
        options,
        lambda atlas, scores, where: scores.strategies(class_named(cls, atlas.classes), count, where=where),
    )


@click.command(short_help="Names of concepts by the attributes of samples.")
@_file
@atlas_layer_option
@mode_option
@click.option(
    "--length", type=click.IntRange(min=1), default=3, show_default=True, help="Attributes in a name, at most."
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of the halves of the samples, and of chance.",
)
@click.option("--save", is_flag=True, help="Keep the names beside the atlas, for reports and tables.")
@figure_options
def names(*, file: Path, length: int, seed: int, save: bool, **options: Any) -> None:
    """Print a name for every concept: the formula of attributes that its scores follow best (INVERT).

    A name is searched on one half of the samples, and checked on the other half. Attributes come from the data, or from
    crp-kit atlas annotate.

    \b
    Example:
      crp-kit atlas names atlas.h5 --layer layer2.1.conv2 --mode activation --length 2
    """  # noqa: D301
    from ..atlas import ConceptAtlas
    from ..atlas.file.names import check_replaceable

    check_table_output(options)
    with ConceptAtlas(file) as atlas:
        if save:
            check_replaceable(atlas, options["layer"], overwrite=options["overwrite"])
        table = atlas[options["layer"]].name_concepts(length=length, mode=options["mode"], seed=seed)
        if save:
            table.save(overwrite=options["overwrite"])
        print_table(table, options, table.plot)
