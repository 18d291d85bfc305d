"""Measure crp-kit beside zennit-crp 0.6.0, zennit, captum, lxt, saliency maps and the arithmetic floor.

  scripts/benchmark --quick                       a small set, minutes
  scripts/benchmark --figure --page               everything, hours; makes figure and tables of performance.md anew
  scripts/benchmark --only heatmaps --models resnet18,resnet50 --device cuda
  scripts/benchmark --only growth --figure        how crp-kit's own time grows, minutes
  scripts/benchmark --json all.json --resume      everything that all.json does not have yet

Runs are interleaved, each side in a long-lived process of its own; models are untrained, images are noise, everything
is float32 and the same for all. The table goes to stdout, progress to stderr. zennit-crp lives in .venv-peers, captum
and lxt live in .venv-lrp, which are made from PyPI with the torch of .venv. The command fails if results disagree.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from .cases import PARTS, PEERS, Case, all_cases, chosen, quick_cases
from .environment import ENVIRONMENTS, LRP, ZENNIT_CRP
from .figure import draw
from .machine import machine
from .page import filled
from .report import markdown
from .rounds import Record, Rounds, record_of, say
from .workers import SCRIPTS, WorkerError, Workers

PAGE = SCRIPTS.parent / "tutorials" / "performance.md"
FIGURE = SCRIPTS.parent / "tutorials" / "images" / "benchmark.png"


def _listed(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def parsed(arguments: list[str] | None) -> tuple[argparse.Namespace, list[Case]]:
    """Return the options and the cases that they choose."""
    parser = argparse.ArgumentParser(
        prog="scripts/benchmark", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the small set")
    parser.add_argument("--only", type=_listed, default=[], metavar="PART,...", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--models", type=_listed, default=[], metavar="MODEL,...", help="only these")
    parser.add_argument("--size", type=int, metavar="N", help="height and width of all images, for a look")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="[default: 3]")
    parser.add_argument("--peer-rounds", type=int, default=1, metavar="N", help="of other packages [default: 1]")
    parser.add_argument(
        "--least", type=float, default=0.3, metavar="SECONDS", help="a shorter run is repeated [default: 0.3]"
    )
    parser.add_argument("--device", default="cpu", help="[default: cpu]")
    parser.add_argument("--peers", type=Path, metavar="PATH", help="an environment that has zennit-crp")
    parser.add_argument("--lrp-peers", type=Path, metavar="PATH", help="an environment that has captum and lxt")
    parser.add_argument("--no-peers", action="store_true", help="without zennit-crp, captum and lxt")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured there, after every case")
    parser.add_argument("--resume", action="store_true", help="keep what the file of --json has, and go on")
    parser.add_argument("--figure", type=Path, nargs="?", const=FIGURE, metavar="FILE", help=f"[default: {FIGURE}]")
    parser.add_argument("--page", type=Path, nargs="?", const=PAGE, metavar="FILE", help=f"[default: {PAGE}]")
    options = parser.parse_args(arguments)
    every = quick_cases() if options.quick else all_cases()
    known = {case.model for case in every}
    for names, choices, noun in ((options.only, set(PARTS), "part"), (options.models, known, "model")):
        if unknown := sorted(set(names) - choices):
            parser.error(f"no {noun} {', '.join(unknown)} here; there are {', '.join(sorted(choices))}")
    if options.rounds < 1 or options.peer_rounds < 1:
        parser.error("a round is the least")
    try:
        torch.empty(0, device=options.device)
    except (RuntimeError, AssertionError) as error:
        parser.error(f"device {options.device!r} cannot be used: {str(error).splitlines()[0]}")
    if options.resume and not options.json:
        parser.error("--resume goes on with the file of --json")
    if options.json and options.json.exists() and not options.resume:
        parser.error(f"{options.json} is there already: --resume goes on with it")
    without = PEERS if options.no_peers else ()
    cases = chosen(every, only=options.only, models=options.models, without=without)
    return options, [replace(case, size=options.size or case.size) for case in cases]


def measured(options: argparse.Namespace, cases: list[Case]) -> dict[str, Any]:
    """Return everything that was measured, with what the file of an earlier run has."""
    earlier = _read(options.json) if options.resume and options.json.exists() else {}
    known = {record["name"]: record for record in earlier.get("cases", ())}
    due = [case for case in cases if not _is_done(case, known.get(case.name))]
    pythons = _pythons(options, sides := sorted({side for case in due for side in case.sides}))
    commands = dict.fromkeys([*earlier.get("commands", ()), *([_command(options)] if due else ())])
    report = {"commands": list(commands), "machine": machine()}
    with Workers(pythons, options.device) as workers, tempfile.TemporaryDirectory() as folder:
        workers.start(sides)
        report["about"] = earlier.get("about", {}) | dict(_about(workers, sides))
        _check_same(report, earlier)
        report["cases"] = _in_order(known)
        rounds = Rounds(options.rounds, options.peer_rounds, options.least)
        for case in due:
            known[case.name] = record_of(case, workers, Path(folder), rounds)
            report["cases"] = _in_order(known)
            if options.json:
                _replace(options.json, json.dumps(report, indent=1))
    return report


def _pythons(options: argparse.Namespace, sides: Iterable[str]) -> dict[str, str]:
    """Return the Python of each side; environments that are missing are made."""
    named = {ZENNIT_CRP: options.peers, LRP: options.lrp_peers}
    environments = {side: ENVIRONMENTS.get(side) for side in sides}
    pythons = {kind: kind.python(named[kind]) for kind in dict.fromkeys(filter(None, environments.values()))}
    return {side: pythons[kind] if kind else sys.executable for side, kind in environments.items()}


def _read(path: Path) -> dict[str, Any]:
    """Return what an earlier run wrote."""
    try:
        report = json.loads(path.read_text())
        complete = {"commands", "machine", "about", "cases"} <= report.keys()
    except (ValueError, AttributeError):
        complete = False
    if not complete:
        raise SystemExit(f"benchmark: error: {path} is not what --json writes; it is left as it is")
    return report


def _is_done(case: Case, record: Record | None) -> bool:
    """Return whether all sides of a case have been measured."""
    if record is None or record["failed"] or not set(case.sides) <= set(record["sides"]):
        return False
    return replace(Case(**record["case"]), left_out=()) == replace(case, left_out=())


def _in_order(records: dict[str, Any]) -> list[Any]:
    """Return records as a run of everything would have made them."""
    order = [case.name for case in (*all_cases(), *quick_cases())]
    return sorted(
        records.values(), key=lambda record: order.index(record["name"]) if record["name"] in order else len(order)
    )


def _about(workers: Workers, sides: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Yield what each side's process says of itself; of one that fails its cases will say so."""
    for side in sides:
        with suppress(WorkerError):
            yield side, workers[side].ask("about")


def _replace(path: Path, text: str) -> None:
    """Write a file so that there is always a whole one."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.replace(path)


def _check_same(report: dict[str, Any], earlier: dict[str, Any]) -> None:
    """Refuse to put measurements of different machines or versions into one table."""
    for part, what in (("machine", "machine"), ("about", "environment")):
        before, now = earlier.get(part, {}), report[part]
        if changed := sorted(name for name, value in before.items() if value != now[name]):
            raise SystemExit(f"benchmark: error: the file of --json is of another {what}: {', '.join(changed)} differ")


def _command(options: argparse.Namespace) -> str:
    """Return the command with the options that matter for what is measured."""
    lists = {"--only": ",".join(options.only), "--models": ",".join(options.models), "--size": options.size}
    always = {
        "--rounds": options.rounds,
        "--peer-rounds": options.peer_rounds,
        "--least": options.least,
        "--device": options.device,
    }
    flags = [flag for flag, wanted in (("--quick", options.quick), ("--no-peers", options.no_peers)) if wanted]
    texts = (f"{name} {value}" for name, value in (lists | always).items() if value not in ("", None))
    return " ".join(["scripts/benchmark", *flags, *texts])


def disagreements(records: Iterable[Record]) -> list[str]:
    """Return a sentence for each result that is too far from another one."""
    return [
        f"{record['name']}: {compared['error']:.2g} from {compared['other']}, where {compared['limit']:g} is the limit"
        for record in records
        for compared in record["agreement"]
        if not compared["ok"]
    ]


def main(arguments: list[str] | None = None) -> int:
    """Measure, report, and return 1 if results disagree."""
    options, cases = parsed(arguments)
    try:
        report = measured(options, cases)
    except WorkerError as error:
        say(f"{error}\nbenchmark: error: crp-kit fails")
        return 1
    text = markdown(report)
    print(text)
    if options.markdown:
        options.markdown.write_text(text)
    if options.figure:
        draw(report["cases"], options.figure)
    if options.page:
        options.page.write_text(filled(options.page.read_text(), report))
    wrong = disagreements(report["cases"])
    for sentence in wrong:
        say(f"benchmark: results disagree: {sentence}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
