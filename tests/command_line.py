"""The command line as tests call it."""

from typing import Any

from click.testing import CliRunner, Result

from crp_kit.cli import main


def invoke(*arguments: Any) -> Result:
    """Run crp-kit in this process."""
    return CliRunner().invoke(main, [str(one) for one in arguments])


def refused(*arguments: Any) -> str:
    """Return what a command that is refused says: one line on stderr, exit code 2, nothing on stdout."""
    result = invoke(*arguments)
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stderr.startswith("crp-kit: error: "), result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stdout == ""
    return result.stderr
