"""What was measured, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .agreement import FURTHER, not_compared
from .cases import BATCH, GROWTH, K_CLASS, PARTS, Case, K

Record = Mapping[str, Any]
NONE = "–"
TITLES = {
    "heatmaps": "Conditional heatmaps of one image",
    "saliency": "Heatmaps in units of saliency maps",
    "atlas": "Atlas: one pass over a dataset",
    "graph": "Concept graph",
    "tracing": "Recording and planning",
    "query": "Asking an atlas file",
    "growth": "How time grows",
}
NOTES = {
    "heatmaps": """
The floor is one forward of the plain model and, for every heatmap, one gradient of the input of each convolution up to
the layer (`aten.convolution_backward`), nothing else. zennit's Gradient attributor has no conditions: it runs a batch
of so many equal images. Peak memory is the most that a fresh process holds, less what it holds before.""",
    "saliency": """
A saliency map is one gradient of a class's logit by the image, of a batch of as many equal images. zennit's Gradient
attributor has the same rules as crp-kit, captum's LRP has epsilon everywhere, both forms of lxt let nothing pass the
softmax of attention (CP-LRP there), where crp-kit's AttnLRP has a rule for it.""",
    "atlas": f"""
Relevance and activation of every concept, over all images and by class. The floor is forward + plain gradient, down to
the image. Batches of {BATCH}, k = {K}, {K_CLASS} by class; checks, hashes and files are included. In
the loop: the ratio without what is done once. Differences are those of a sample's scores in a layer, without the
eighth of the samples that differ most: where the two largest values of a pooling window differ by rounding alone, the
way down is another. Those may differ {FURTHER} times as much.""",
    "graph": """
crp-kit runs with `exclude_parallel=False`, as zennit-crp does. Time begins with the traced graph at hand.""",
    "tracing": """
Traced: which convolutions feed which. The floor is one forward. Both sides start from nothing each time. The first
heatmap of a new model takes what is recorded, canonized and planned here, and modifies the weights; later ones go on
from there.""",
    "query": """
The file is synthetic and holds random numbers; it has just been written, so that the system has it in memory.""",
    "growth": """
Heatmaps of one image by conditions, an atlas by the rest; one number changes at a time. Once: checks, empty tables and
the file, which has a place for every layer and class.""",
}
Column = tuple[str, Callable[[Record], str]]


def markdown(report: Mapping[str, Any]) -> str:
    """Return the whole report."""
    parts = [about(report), "In brackets: the least and the most of several rounds."]
    for part in PARTS:
        records = [record for record in report["cases"] if record["part"] == part]
        if records:
            columns = GROWN if part == "growth" else COLUMNS
            parts += [f"### {TITLES[part]}", table(records, columns), NOTES[part].strip()]
    return "\n\n".join([*parts, *_missing(report["cases"])]) + "\n"


def seconds(value: float) -> str:
    """Return a time with three digits, in a unit that suits it."""
    for unit, factor in (("s", 1), ("ms", 1e3)):
        if value * factor >= 0.1:
            return f"{three(value * factor)} {unit}"
    return f"{three(value * 1e6)} µs"


def three(value: float) -> str:
    """Return a number with three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def size(value: float) -> str:
    """Return so many bytes."""
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{three(value / 1e6)} MB"


def about(report: Mapping[str, Any]) -> str:
    """Return on what machine, by which commands and with what versions it was measured."""
    machine = report["machine"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {size(machine['memory'])} of memory, {machine['system']}.",
        f"{', '.join(f'`{command}`' for command in report['commands'])}: medians of the rounds, and ratios of medians.",
    ]
    sides: dict[str, list[str]] = {}
    for side, one in report["about"].items():
        versions = ", ".join(f"{name} {number}" for name, number in one["versions"].items())
        sides.setdefault(f"on {one['device']}, {one['threads']} threads: {versions}.", []).append(SIDES[side])
    return "  \n".join([*lines, *(f"{', '.join(names)} {where}" for where, names in sides.items())])


SIDES = {
    "ours": "crp-kit",
    "peer": "zennit-crp",
    "gradient": "zennit's Gradient",
    "floor": "floor",
    "saliency": "saliency maps",
    "captum": "captum's LRP",
    "lxt": "lxt, efficient",
    "lxt_explicit": "lxt, explicit",
}


def _spread(side: str) -> Callable[[Record], str]:
    def cell(record: Record) -> str:
        several = record["sides"][side]["wall"]
        spread = f" ({seconds(min(several))} to {seconds(max(several))})" if len(several) > 1 else ""
        return seconds(record["median"][side]) + spread

    return of_side(side, cell)


def of_side(side: str, cell: Callable[[Record], str]) -> Callable[[Record], str]:
    """Return a column's cell for the cases in which a side took part."""
    return lambda record: cell(record) if side in record["sides"] else NONE


def _ratio(side: str) -> Callable[[Record], str]:
    return of_side(side, lambda record: three(record["ratio"][side]))


def _noted(side: str, what: str, shown: Callable[[Any], str]) -> Callable[[Record], str]:
    return lambda record: shown(record["sides"][side][what]) if what in record["sides"].get(side, {}) else NONE


def _used(side: str) -> Callable[[Record], str]:
    return lambda record: size(record["memory"][side]) if side in record["memory"] else NONE


def in_the_loop(record: Record) -> str:
    """Return how many times as fast crp-kit's last round is without what is done once."""
    if record["part"] != "atlas" or "peer" not in record["sides"]:
        return NONE
    mine, theirs = (record["sides"][side]["wall"][-1] - record["sides"][side]["around"] for side in ("ours", "peer"))
    return three(theirs / mine)


def images(side: str) -> Callable[[Record], str]:
    """Return the cell that says how many images of an atlas a side takes in a second."""
    rate = of_side(side, lambda record: three(record["case"]["count"] / record["median"][side]))
    return lambda record: rate(record) if record["part"] == "atlas" else NONE


def _differences(record: Record) -> str:
    said = [f"{one['error']:.0e} {one['other']}{'' if one['ok'] else ' **DIFFERS**'}" for one in record["agreement"]]
    return "; ".join(said) or NONE


def _each(record: Record) -> str:
    field, power = GROWTH[record["case"]["growth"]]
    return seconds(record["median"]["ours"] / record["case"][field]) if power else NONE


def _to_saliency() -> list[Column]:
    """Return columns of times in units of saliency maps."""

    def cell(side: str) -> Callable[[Record], str]:
        def ratio(record: Record) -> str:
            unit = record["median"].get("saliency")
            return three(record["median"][side] / unit) if unit and side in record["median"] else NONE

        return ratio

    return [(f"{SIDES[side]} / saliency", cell(side)) for side in ("ours", "gradient", "captum", "lxt", "lxt_explicit")]


TO_SALIENCY = _to_saliency()
TO_PEER: Column = ("zennit-crp / crp-kit", _ratio("peer"))
TO_FLOOR: Column = ("crp-kit / floor", of_side("floor", lambda record: three(1 / record["ratio"]["floor"])))
COLUMNS: tuple[Column, ...] = (
    ("work", lambda record: record["name"]),
    ("crp-kit", _spread("ours")),
    ("its CPU time", _noted("ours", "cpu", lambda several: seconds(sorted(several)[len(several) // 2]))),
    ("images/s", images("ours")),
    ("nodes", _noted("ours", "nodes", str)),
    ("zennit-crp", _spread("peer")),
    TO_PEER,
    ("in the loop", in_the_loop),
    ("Gradient", _spread("gradient")),
    ("Gradient / crp-kit", _ratio("gradient")),
    ("floor", _spread("floor")),
    TO_FLOOR,
    *((SIDES[side], _spread(side)) for side in ("saliency", "captum", "lxt", "lxt_explicit")),
    *TO_SALIENCY,
    ("peak memory, crp-kit", _used("ours")),
    ("zennit-crp", _used("peer")),
    ("Gradient", _used("gradient")),
    ("files, crp-kit", _noted("ours", "files", str)),
    ("on disk", _noted("ours", "bytes", size)),
    ("files, zennit-crp", _noted("peer", "files", str)),
    ("on disk", _noted("peer", "bytes", size)),
    ("difference to", _differences),
)
GROWN: tuple[Column, ...] = (*COLUMNS[:2], ("for each", _each), ("of it once", _noted("ours", "around", seconds)))
"""The columns of how time grows."""


def table(records: Sequence[Record], columns: Iterable[Column]) -> str:
    """Return a table, without the columns that have nothing."""
    filled = [(title, [cell(record) for record in records]) for title, cell in columns]
    filled = [(title, cells) for title, cells in filled if set(cells) != {NONE}]
    rows = [
        [title for title, _ in filled],
        ["---"] * len(filled),
        *zip(*(cells for _, cells in filled), strict=True),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _missing(records: Iterable[Record]) -> list[str]:
    """Say what a dash stands for."""
    said: dict[str, None] = {}
    for record in records:
        case = Case(**{**record["case"], "left_out": tuple(record["case"]["left_out"])})
        if case.kind == "heatmaps" and "peer" in case.left_out and "gradient" in case.left_out:
            said[f"{case.count} heatmaps: zennit-crp and Gradient would take hours; nothing is extrapolated."] = None
        if "peer" in record["sides"] and (reason := not_compared(case)):
            said[f"{case.name}: zennit-crp's time stands here, its maps are not compared: {reason}."] = None
        for side, error in record["failed"].items():
            said[f"{case.name}: {SIDES[side]} fails: `{error}`."] = None
    return ["\n".join(f"- {one}" for one in said)] if said else []
