"""Memory that is freed stays with the process, if that is asked for."""

import os
import platform
import subprocess
import sys

import pytest

import crp_kit

FAULTS = """
import resource
import torch
import crp_kit

def faults():
    for _ in range(12):
        torch.empty(10 << 20).fill_(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(12):
        torch.empty(10 << 20).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with crp_kit.keep_freed_memory() as memory:
    print(memory.kept, faults())
print(memory.kept, faults())
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library is left as it is")


def page_faults(**variables: str) -> list[tuple[bool, int]]:
    """Return whether memory is kept, and the page faults of 480 MB: within the block and behind it."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    result = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, env={**plain, **variables}
    )
    return [(kept == "True", int(count)) for kept, count in map(str.split, result.stdout.splitlines())]


@glibc
@pytest.mark.slow
def test_freed_memory_is_kept_until_that_is_undone():
    (kept, few), (kept_behind, many) = page_faults()
    assert (kept, kept_behind) == (True, False)
    assert few < 500
    assert many > 10_000


@glibc
@pytest.mark.slow
def test_what_the_user_has_tuned_is_left_as_it_is():
    (kept, many), _ = page_faults(MALLOC_TRIM_THRESHOLD_="131072")
    assert not kept
    assert many > 10_000


def test_it_says_why_memory_is_not_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    memory = crp_kit.keep_freed_memory()
    assert repr(memory) == "<FreedMemory: given back. The environment variable MALLOC_ARENA_MAX decides.>"
    memory.undo()
    assert not memory.kept
