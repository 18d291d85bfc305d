"""``crp-kit report`` that is interrupted leaves the earlier report as it was, and nothing beside it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke, without_progress
from report_case import contents

from crp_kit.views.report.folder import Site

LAYER = "layer3.1.conv2"
STUDY = ("--model", "demo:resnet", "--data", "demo:shapes:8")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_report_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, status: int
) -> None:
    atlas, report = tmp_path / "a.h5", tmp_path / "site" / "report"
    report.parent.mkdir()
    built = invoke("atlas", "build", *STUDY, "--layers", LAYER, "--workers", 0, "--quiet", "-o", atlas)
    assert built.exit_code == 0, built.output
    asked = ("report", atlas, *STUDY, "--references", 1, "-o", report)
    assert invoke(*asked, "--concepts", "0").exit_code == 0
    earlier, usual = contents(report), Site.picture

    def picture(site: Site, name: str) -> Any:
        os.kill(os.getpid(), number)
        return usual(site, name)

    monkeypatch.setattr(Site, "picture", picture)
    result = invoke(*asked, "--overwrite")
    assert (result.exit_code, result.stdout) == (status, "")
    if number == signal.SIGINT:
        assert without_progress(result.stderr).strip() == "crp-kit: interrupted; no report was written"
    assert "concepts" in result.stderr
    assert "(stopped)" in result.stderr
    assert contents(report) == earlier
    assert os.listdir(report.parent) == ["report"]
