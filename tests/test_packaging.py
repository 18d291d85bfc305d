"""The package as it is built and installed: bytes of archives, metadata, version, shell completion."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
from click.testing import CliRunner

import crp_kit
from crp_kit.cli import main

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "scripts" / "build"


def built(folder: Path, *options: str) -> dict[str, bytes]:
    """Return the archives by name."""
    subprocess.run([sys.executable, BUILD, "-o", folder, *options], check=True, capture_output=True)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_two_builds_have_the_same_bytes_and_all_that_the_package_needs(tmp_path: Path) -> None:
    first, second = (built(tmp_path / name) for name in ("first", "second"))
    assert first == second
    assert sorted(Path(name).suffix for name in first) == [".gz", ".whl"]
    tracked = subprocess.run(["git", "ls-files", "crp_kit"], cwd=ROOT, check=True, capture_output=True, text=True)
    (wheel,), (sdist,) = ([*(tmp_path / "first").glob(end)] for end in ("*.whl", "*.tar.gz"))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert set(tracked.stdout.split()) <= set(names)
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "setup.cfg", "pyproject.toml", "crp_kit/data/demo_resnet.pt"} <= inside
    fields = message_from_string(metadata)
    for name in ("Name", "Version", "Summary", "Author", "Keywords", "Requires-Python", "Description-Content-Type"):
        assert fields[name], name
    assert fields["License"] or fields["License-Expression"]
    assert fields.get_payload() == (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_package_index_can_follow_every_link_and_show_every_picture_of_the_readme(tmp_path: Path) -> None:
    built(tmp_path, "--links", "https://example.org/v1/")
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        metadata = archive.read(next(name for name in archive.namelist() if name.endswith("METADATA"))).decode()
    shown = message_from_string(metadata).get_payload()
    targets = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    relative = [target for target in targets if not target.startswith("https:")]
    assert relative
    for target in relative:
        raw = "?raw=true" if target.endswith(".png") else ""
        assert f"](https://example.org/v1/{target}{raw})" in shown
        assert (ROOT / target).is_file()
    assert sorted(target for target in targets if target not in relative) == sorted(
        target for target in re.findall(r"\]\(([^)]+)\)", shown) if "example.org" not in target
    )


def test_versions_agree() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    result = CliRunner().invoke(main, ["--version"], prog_name="crp-kit")
    assert result.stdout == f"crp-kit {crp_kit.__version__}\n"
    assert setup["metadata"]["version"] == crp_kit.__version__


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell: str) -> None:
    def completed(words: str) -> str:
        *_, last = words.split()
        position = last if shell == "fish" else str(len(words.split()) - 1)
        environment = {"_CRP_KIT_COMPLETE": f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": position}
        return CliRunner().invoke(main, [], prog_name="crp-kit", env=environment).stdout

    assert "heatmap" in completed("crp-kit heatm")
    assert "--suggest" in completed("crp-kit layers --sug")
