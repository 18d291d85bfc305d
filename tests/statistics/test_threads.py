"""Threads: results in order, errors handed on, and a limit of BLAS that goes with the last one who wants it."""

from __future__ import annotations

import pytest
from threadpoolctl import threadpool_info

from crp_kit.statistics.threads import on_threads, single_blas_thread


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_results_come_in_the_order_of_the_items_and_an_error_reaches_the_caller() -> None:
    assert list(on_threads(str, range(50))) == [str(number) for number in range(50)]
    assert list(on_threads(str, [])) == []
    results = on_threads(lambda number: 1 // number, [1, 0, 1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        list(results)


def test_blas_has_one_thread_until_the_last_one_who_asked_for_it_is_gone() -> None:
    before = blas_threads()
    single_blas_thread.__enter__()
    with single_blas_thread:
        assert set(blas_threads()) == {1}
    assert set(blas_threads()) == {1}
    single_blas_thread.__exit__(None, None, None)
    assert blas_threads() == before


def test_the_limit_of_blas_goes_with_an_exception_too() -> None:
    before = blas_threads()

    @single_blas_thread
    def fails() -> None:
        assert set(blas_threads()) == {1}
        raise ValueError

    with pytest.raises(ValueError, match="^$"):
        fails()
    assert blas_threads() == before
