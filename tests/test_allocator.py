"""Memory that is freed stays with the process, if that is asked for."""

import os
import platform
import subprocess
import sys

import pytest

import crp_kit

SCRIPT = """
import resource
import torch
import crp_kit

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() >> 20

def faults():
    for _ in range(12):
        torch.empty(10 << 20).fill_(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(12):
        torch.empty(10 << 20).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with crp_kit.keep_freed_memory() as memory:
    print(memory.kept, faults())
    many = [torch.empty(10 << 20).fill_(1) for _ in range(10)]
    del many
    print(memory.kept, resident())
print(memory.kept, resident())
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library is left as it is")


def measured(**variables: str) -> list[tuple[bool, int]]:
    """Return whether memory is kept, and page faults of 480 MB; then resident MB, before and after that is undone."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env={**plain, **variables}
    )
    return [(kept == "True", int(count)) for kept, count in map(str.split, result.stdout.splitlines())]


@glibc
@pytest.mark.slow
def test_freed_memory_is_kept_until_that_is_undone():
    (kept, faults), (kept_before, before), (kept_behind, behind) = measured()
    assert (kept, kept_before, kept_behind) == (True, True, False)
    assert faults < 500
    assert before - behind > 200


@glibc
@pytest.mark.slow
def test_what_the_user_has_tuned_is_left_as_it_is():
    (kept, faults), *_ = measured(MALLOC_TRIM_THRESHOLD_="131072")
    assert not kept
    assert faults > 10_000


def test_it_says_why_memory_is_not_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    memory = crp_kit.keep_freed_memory()
    assert repr(memory) == "<FreedMemory: given back. The environment variable MALLOC_ARENA_MAX decides.>"
    memory.undo()
    assert not memory.kept
