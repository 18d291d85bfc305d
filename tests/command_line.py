"""The command line as tests call it."""

from typing import Any

from click.testing import CliRunner, Result

from crp_kit.cli import main


def invoke(*arguments: Any) -> Result:
    """Run crp-kit in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(*arguments: Any) -> str:
    """Return the message of a command that is refused: exit code 2, nothing on stdout, and on stderr one line,
    or three where a part of an argument is marked below it.
    """
    result = invoke(*arguments)
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stderr.startswith("crp-kit: error: "), result.stderr
    assert result.stderr.count("\n") == (3 if "^" in result.stderr else 1), result.stderr
    assert result.stdout == ""
    return result.stderr
