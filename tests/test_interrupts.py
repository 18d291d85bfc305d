"""Signals during work that saves its results: noted, with their effect afterwards; two of them end it at once."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from processes import end_of_child

from crp_kit import interrupts
from crp_kit.interrupts import Interrupts

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Every test leaves the handlers that were there."""
    before = [signal.getsignal(number) for number in NUMBERS]
    yield
    after = [signal.getsignal(number) for number in NUMBERS]
    for number, handler in zip(NUMBERS, before, strict=True):
        signal.signal(number, handler)
    assert after == before


def test_a_signal_takes_its_effect_at_the_end_of_the_outermost_context() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), Interrupts() as outer:  # noqa: PT012
        with Interrupts() as inner:
            signal.raise_signal(signal.SIGINT)
            steps.append(inner.noted)
        steps.append(outer.noted)
    assert steps == [signal.SIGINT, signal.SIGINT]


def test_what_has_been_raised_is_not_raised_again() -> None:
    with pytest.raises(KeyboardInterrupt, match="half done"), Interrupts() as noted:  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        noted.end("half done")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_exit_status_is_what_shells_report(number: int, status: int) -> None:
    with pytest.raises(SystemExit) as ended, Interrupts() as noted:  # noqa: PT012
        signal.raise_signal(number)
        noted.end("half done")
    assert ended.value.code == status


def test_a_handler_of_the_caller_gets_the_signal_afterwards() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    with Interrupts():
        signal.raise_signal(signal.SIGTERM)
        assert not came
    assert came == [signal.SIGTERM]
    signal.signal(signal.SIGTERM, before)


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with Interrupts() as noted:
        signal.raise_signal(signal.SIGHUP)
        assert noted.noted is None
    signal.signal(signal.SIGHUP, before)


def test_a_second_one_ends_the_work_at_once() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), Interrupts():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        steps.append("noted")
        signal.raise_signal(signal.SIGINT)
        steps.append("never")
    assert steps == ["noted"]


def test_a_process_that_a_second_one_ends_leaves_no_unfinished_file(tmp_path: Path) -> None:
    unfinished = tmp_path / "unfinished"

    def work() -> None:
        unfinished.write_text("half")
        with Interrupts() as noted, noted.leftover(unfinished.unlink):
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)

    assert end_of_child(work) == -signal.SIGTERM
    assert not unfinished.exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "ended"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 3)])
def test_a_second_one_ends_the_work_wherever_it_comes(number: int, ended: int) -> None:
    """Between any two lines of the bookkeeping itself, also in the standard library."""

    def work() -> None:
        try:
            disturbed()
        except KeyboardInterrupt:
            with pytest.raises(KeyboardInterrupt), Interrupts() as again:  # noqa: PT012
                signal.raise_signal(number)
                os._exit(3 if again.noted == number else 8)

    def disturbed() -> None:
        lines = 0

        def at_line(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal lines
            if event == "line" and frame.f_code.co_filename in files:
                lines += 1
                if lines == last:
                    sys.settrace(None)
                    signal.raise_signal(number)
            return at_line

        signal.setitimer(signal.ITIMER_REAL, 10)  # ends a process that waits for ever
        with Interrupts() as noted:
            sys.settrace(at_line)
            with noted.hurried(), noted.leftover(list):
                signal.raise_signal(number)
            if lines < last:
                os._exit(7)

    files, last, status = {interrupts.__file__, threading.__file__}, 0, ended
    while status == ended:
        last += 1
        status = end_of_child(work)
    assert status == 7
    assert last > 10


def test_in_a_careful_block_nothing_is_raised_and_a_second_one_is_noticed_by_the_work() -> None:
    with pytest.raises(KeyboardInterrupt), Interrupts() as noted, noted.careful():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        noted.check()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            noted.check()


def test_a_third_one_ends_a_careful_block_too(tmp_path: Path) -> None:
    unfinished = tmp_path / "unfinished"

    def work() -> None:
        unfinished.write_text("half")
        with Interrupts() as noted, noted.leftover(unfinished.unlink), noted.careful():
            for _ in range(3):
                signal.raise_signal(signal.SIGINT)

    assert end_of_child(work) == -signal.SIGINT
    assert not unfinished.exists()


def test_work_that_takes_long_after_a_signal_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt), Interrupts() as noted, noted.careful():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        noted.check()
        monkeypatch.setattr(interrupts, "_PATIENCE", -1.0)
        noted.check()


def test_a_forked_child_is_not_kept_from_ending() -> None:
    with Interrupts() as noted:
        assert end_of_child(lambda: signal.raise_signal(signal.SIGTERM)) == -signal.SIGTERM
        assert end_of_child(lambda: signal.raise_signal(signal.SIGINT)) == 3
        assert noted.noted is None


def test_a_forked_child_may_note_signals_of_its_own() -> None:
    def work() -> None:
        with Interrupts() as noted:
            signal.raise_signal(signal.SIGTERM)
            os._exit(7 if noted.noted == signal.SIGTERM else 8)

    with Interrupts():
        assert end_of_child(work) == 7


def test_other_threads_change_no_handlers() -> None:
    seen: list[Any] = []

    def work() -> None:
        before = signal.getsignal(signal.SIGINT)
        with Interrupts() as noted:
            seen.extend([signal.getsignal(signal.SIGINT) == before, noted.noted])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True, None]


@pytest.mark.parametrize("before", [True, False], ids=["before the block", "in the block"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_block_in_a_hurry_ends_some_seconds_after_a_signal(
    monkeypatch: pytest.MonkeyPatch, before: bool, number: int
) -> None:
    monkeypatch.setattr(interrupts, "_PATIENCE", 0.05)
    began, handler = time.monotonic(), signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit), Interrupts() as noted:  # noqa: PT012
        if before:
            signal.raise_signal(number)
        with noted.hurried():
            if not before:
                signal.raise_signal(number)
            while time.monotonic() < began + 20:
                sum(range(1000))
    assert time.monotonic() < began + 15
    assert signal.getsignal(number) == handler


def test_a_block_that_ends_in_time_is_not_given_up_and_nothing_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "_PATIENCE", 0.05)
    done = []
    with pytest.raises(KeyboardInterrupt), Interrupts() as noted:  # noqa: PT012
        with noted.hurried():
            signal.raise_signal(signal.SIGINT)
            done.append("batch")
        time.sleep(0.15)
        done.append("saved")
    assert done == ["batch", "saved"]


def test_a_second_signal_ends_a_block_in_a_hurry_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), Interrupts() as noted, noted.hurried():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it went on")
    time.sleep(0)
    with Interrupts() as noted:
        assert noted.noted is None
