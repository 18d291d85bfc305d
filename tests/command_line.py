"""The command line as tests call it."""

import re
from typing import Any

from click.testing import CliRunner, Result

from crp_kit.cli import main


def invoke(*arguments: Any) -> Result:
    """Run crp-kit in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(*arguments: Any) -> str:
    """Return the message of a command that is refused: exit code 2, nothing on stdout, and on stderr, after lines of
    progress, one line, or three where a part of an argument is marked below it.
    """
    result = invoke(*arguments)
    message = without_progress(result.stderr)
    assert result.exit_code == 2, (result.output, result.exception)
    assert message.startswith("crp-kit: error: "), result.stderr
    assert message.count("\n") == (3 if "^" in message else 1), result.stderr
    assert result.stdout == ""
    return message


def without_progress(stderr: str) -> str:
    """Return what a command has said beside its progress, such as ``atlas: 0 of 64 images``, and an untrained model."""
    progress = r"[a-z ]+: [\d,]+ of [\d,]+ [a-z]+s\b.*"
    return re.sub(rf"^({progress}|\S+ is untrained: .*)\n", "", stderr, flags=re.MULTILINE)
