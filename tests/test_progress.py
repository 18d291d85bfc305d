"""Progress on stderr: a bar on a terminal, lines elsewhere, nothing where it is not wanted."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import pytest

from crp_kit.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


Shown = Callable[[], list[str]]


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Shown:
    """The lines on stderr since the last call."""
    return lambda: capsys.readouterr().err.splitlines()


def test_a_line_at_the_start_one_each_minute_and_one_at_the_end(shown: Shown, clock: Clock) -> None:
    with Progress(8000, "atlas", unit="image", clock=clock) as bar:
        for _ in range(16):
            clock.now += 10
            bar.update(500)
    assert shown() == [
        "atlas: 0 of 8,000 images",
        "atlas: 3,000 of 8,000 images (37.5%), 50 images/s, 0:01:40 left",
        "atlas: 6,000 of 8,000 images (75.0%), 50 images/s, 0:00:40 left",
        "atlas: 8,000 of 8,000 images after 0:02:40, 50 images/s",
    ]


def test_steps_of_several_minutes_make_a_line_each_and_none_too_soon_afterwards(shown: Shown, clock: Clock) -> None:
    with Progress(10, "report", unit="concept", clock=clock) as bar:
        for seconds in (150, 20, 15, 100):
            clock.now += seconds
            bar.update()
        lines = shown()
    assert [line.split(",")[0] for line in lines] == [
        "report: 0 of 10 concepts",
        "report: 1 of 10 concepts (10.0%)",  # after 150 s
        "report: 3 of 10 concepts (30.0%)",  # 185 s: the third minute is over, and not yet after 170 s
        "report: 4 of 10 concepts (40.0%)",
    ]
    assert "0.0067 concepts/s, 0:22:30 left" in lines[1]


def test_the_rate_and_what_is_left_do_not_count_what_an_earlier_process_did(shown: Shown, clock: Clock) -> None:
    with Progress(1_000_000, "atlas", unit="image", initial=900_000, clock=clock) as bar:
        clock.now += 60
        bar.update(30_000)
        clock.now += 10
    assert shown() == [
        "atlas: 900,000 of 1,000,000 images (90.0%)",
        "atlas: 930,000 of 1,000,000 images (93.0%), 500 images/s, 0:02:20 left",
        "atlas: 930,000 of 1,000,000 images (93.0%) after 0:01:10, 429 images/s",
    ]


def test_a_line_says_how_old_the_last_checkpoint_is(shown: Shown, clock: Clock) -> None:
    with Progress(100, "atlas", unit="image", clock=clock) as bar:
        clock.now += 50
        bar.saved()
        clock.now += 15
        bar.update()
        assert shown()[-1].endswith(", last checkpoint 15 s ago")


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit])
def test_after_a_signal_the_last_line_says_where_the_work_stopped(
    shown: Shown, clock: Clock, signal: type[BaseException]
) -> None:
    def interrupted() -> None:
        with Progress(100, "atlas", unit="image", clock=clock) as bar:
            clock.now += 5
            bar.update(20)
            raise signal

    with pytest.raises(signal):
        interrupted()
    assert shown()[-1] == "atlas: 20 of 100 images (20.0%) (stopped) after 0:00:05, 4 images/s"


def test_what_follows_the_last_unit_is_said_before_it_is_done(
    shown: Shown, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Progress(3, "atlas", unit="image", clock=clock) as bar:
        bar.update(3)
        shown()
        bar.ending("writing a.h5")
        assert shown() == ["atlas: 3 of 3 images, writing a.h5"]
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(3, "atlas", unit="image") as bar:
        bar.ending("writing a.h5")
    assert "writing a.h5" in terminal.getvalue()


def test_a_large_file_has_a_line_each_minute_while_it_is_written(
    shown: Shown, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Progress(3, "atlas", unit="image", clock=clock) as bar:
        bar.update(3)
        shown()
        for step in range(1, 7):
            clock.now += 25
            bar.written(step / 6)
        assert shown() == [
            "atlas: 3 of 3 images, 50% of the file written and read again",
            "atlas: 3 of 3 images, 83% of the file written and read again",
        ]
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(3, "atlas", unit="image") as bar:
        bar.written(0.5)
    assert "50% of the file" in terminal.getvalue()


def test_an_error_speaks_for_itself(shown: Shown, clock: Clock) -> None:
    with pytest.raises(ValueError, match="wrong"), Progress(100, "atlas", unit="image", clock=clock):
        raise ValueError("wrong")
    assert shown() == ["atlas: 0 of 100 images"]


def test_nothing_to_do_divides_by_nothing(shown: Shown, clock: Clock) -> None:
    with Progress(0, "links", unit="concept", clock=clock):
        pass
    assert shown() == ["links: 0 of 0 concepts", "links: 0 of 0 concepts after 0:00:00"]


def test_a_minute_without_a_step_done_has_no_rate_to_divide_by(shown: Shown, clock: Clock) -> None:
    with Progress(5, "atlas", unit="image", clock=clock) as bar:
        clock.now += 61
        bar.update(0)
        assert shown()[-1] == "atlas: 0 of 5 images, 0 images/s"


def test_items_are_counted_as_they_are_done(shown: Shown) -> None:
    assert list(Progress(3, "references", unit="concept").over(iter("abc"))) == ["a", "b", "c"]
    first, last = shown()
    assert first == "references: 0 of 3 concepts"
    assert last.startswith("references: 3 of 3 concepts after 0:00:00")


def test_what_is_not_verbose_is_silent(shown: Shown, clock: Clock) -> None:
    with Progress(3, "atlas", unit="image", verbose=False, clock=clock) as bar:
        clock.now += 100
        bar.update()
        bar.saved()
    assert shown() == []


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with Progress(40, "report", unit="concept", initial=10) as bar:
        bar.update(30)
        bar.saved()
    assert "report: 100%" in terminal.getvalue()
    assert "40/40" in terminal.getvalue()
    assert "\r" in terminal.getvalue()


@pytest.mark.parametrize("problem", ["closed", "broken pipe", "no console"])
def test_work_goes_on_where_nothing_can_be_shown(monkeypatch: pytest.MonkeyPatch, clock: Clock, problem: str) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    stream = {"closed": io.StringIO(), "broken pipe": Broken(), "no console": None}[problem]
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress(3, "atlas", unit="image", clock=clock) as bar:
        if problem == "closed":
            stream.close()
        clock.now += 100
        bar.update()
