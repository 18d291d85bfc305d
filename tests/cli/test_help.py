"""Help of the command line: every command shows an example, and says what each of its options is."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from crp_kit.cli import main


def commands(group: click.Group, names: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Yield each command below a group with its whole name."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*names, name))
        else:
            yield " ".join((*names, name)), command


COMMANDS = dict(commands(main))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_shows_an_example_of_itself(name: str) -> None:
    assert f"  crp-kit {name} " in str(COMMANDS[name].help)


def test_each_option_says_what_it_is() -> None:
    options = [
        (name, option.opts[0], option.help)
        for name, command in COMMANDS.items()
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden
    ]
    assert len(options) > 300
    assert [
        (name, option) for name, option, text in options if not str(text or "").partition("[default")[0].strip()
    ] == []
