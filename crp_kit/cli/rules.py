"""``crp-kit rules`` and ``crp-kit check``: what happens at each node of a model, and what to know before a run."""

from __future__ import annotations

import json
from typing import Any

import click

from .group import in_options, say
from .studies import sample_of, study_of
from .study_options import study_options

__all__ = ["check", "rules"]

_FOUND = 1
"""Exit status of a check that found something."""


@click.command(short_help="Show which rule each node of a model gets.")
@study_options
@click.option("--check", is_flag=True, help="Exit with 1 if relevance passes some node as plain gradient.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@click.pass_context
def rules(context: click.Context, /, *, check: bool, as_json: bool, **options: Any) -> None:
    """Show which rule each node of a model gets from a composite, and how right it is.

    \b
    Examples:
      crp-kit rules --model torchvision:resnet50 --composite epsilon_plus_flat
      crp-kit rules --model timm:convnext_tiny --check > /dev/null

    The index numbers the layers that rules can be given to (crp_kit.rules.maps); what only moves values has none. A
    rule is "exact", "approximate" (some factor that depends on the input counts as a constant), or no rule of relevance
    at all: "plain gradient".
    """  # noqa: D301
    study = study_of(options, needs_weights=False)
    table = study.rules(sample_of(study))
    click.echo(json.dumps(table.as_dicts(), indent=1) if as_json else repr(table))
    improper = [row.name for row in table.improper]
    if check and improper:
        say(f"crp-kit: {len(improper)} of {len(table)} nodes have no proper rule: {', '.join(improper)}")
        context.exit(_FOUND)


@click.command(short_help="Say what to know about a model before a run.")
@study_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@click.pass_context
def check(context: click.Context, /, *, as_json: bool, **options: Any) -> None:
    """Say what has no rule, what will not conserve relevance and what never runs, each with advice.

    \b
    Examples:
      crp-kit check --model torchvision:densenet121 --composite epsilon_plus_flat
      crp-kit check --model my_project/models.py:make --elementwise NewGELU

    The exit status is 1 if there is an error: a node where relevance would be wrong. Warnings and notes are choices to
    know about. Where relevance went in a run, Python says: study(..., diagnose=True).conservation.
    """  # noqa: D301
    study = study_of(options, needs_weights=False)
    found = study.check(sample_of(study))
    click.echo(json.dumps(found.as_dicts(), indent=1) if as_json else in_options(repr(found)))
    if not found.ok:
        context.exit(_FOUND)
