"""Bytes of an HDF5 file: bounded reads, little-endian fields, and the checksum of HDF5's metadata."""

from __future__ import annotations

import os
import struct
import threading
import weakref
from pathlib import Path

from ...errors import AtlasError

__all__ = ["UNDEFINED", "Fields", "FileBytes", "lookup3"]

UNDEFINED = (1 << 64) - 1
"""The address of what is not there."""
_METADATA = 1 << 28
"""Bytes of metadata, each part counted as often as it is read: 5,000 layers have 100 MB."""
_WORD = 0xFFFFFFFF


class FileBytes:
    """An open file that is read by address. What its metadata take together is bounded by its size.

    A sound file names each block of metadata once. In a hostile one a few blocks that name each other would be walked
    without end; here they soon add up to more than the file.
    """

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by `close`
        weakref.finalize(self, self._file.close)  # an atlas that nobody closes is closed with its last user
        self._lock = threading.Lock()
        self.state = os.fstat(self._file.fileno())
        self.size = self.state.st_size
        self._left = min(2 * self.size, _METADATA)  # twice: two threads may read the same part at once

    def close(self) -> None:
        self._file.close()

    @property
    def closed(self) -> bool:
        return self._file.closed

    def check(self, address: int, size: int) -> None:
        """Make sure that the file has so many bytes from an address on."""
        if address + size > self.size:
            raise AtlasError(f"a part of it should be at byte {address:,}, of {self.size:,}; it was cut off or damaged")

    def read(self, address: int, size: int) -> bytes:
        """Return bytes from an address on, all of them or an error. Threads and forked processes may read at once."""
        self.check(address, size)
        if hasattr(os, "pread"):
            data = os.pread(self._file.fileno(), size, address)
        else:  # on Windows, where nothing forks
            with self._lock:
                self._file.seek(address)
                data = self._file.read(size)
        if len(data) != size:
            raise AtlasError("it became shorter while it was read")
        return data

    def metadata(self, address: int, size: int) -> bytes:
        """Return bytes that are counted as metadata."""
        self._left -= size
        if self._left < 0:
            raise AtlasError("its metadata take more bytes than it has: parts of it are named more than once")
        return self.read(address, size)

    def block(self, address: int, size: int, signature: bytes) -> Fields:
        """Return a block of metadata behind its signature and without the checksum at its end, which has to be right.

        Raises
        ------
        AtlasError
            If there is no such block, or it is damaged.
        """
        name = signature.decode("ascii", "ignore").strip() or "page"
        if size < len(signature) + 4:
            raise AtlasError(f"its block {name!r} is too short")
        data = self.metadata(address, size)
        if not data.startswith(signature):
            raise AtlasError(f"there is no block {name!r} at byte {address:,}")
        if lookup3(data[:-4]) != int.from_bytes(data[-4:], "little"):
            raise AtlasError(f"its block {name!r} at byte {address:,} is damaged: the checksum differs")
        return Fields(data[len(signature) : -4])


class Fields:
    """Fields of a block of metadata, read one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data, self._next = data, 0

    @property
    def left(self) -> int:
        """How many bytes are not read yet."""
        return len(self._data) - self._next

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        start, self._next = self._next, self._next + size
        if self._next > len(self._data):
            raise AtlasError("a part of its metadata is shorter than it says")
        return self._data[start : self._next]

    def number(self, size: int) -> int:
        """Return the next bytes as a number that is not negative."""
        return int.from_bytes(self.take(size), "little")

    def expect(self, values: bytes, what: str) -> None:
        """Make sure that the next bytes are these."""
        if (came := self.take(len(values))) != values:
            raise AtlasError(f"{what} is {int.from_bytes(came, 'little')}, which an atlas never has")


def lookup3(data: bytes) -> int:
    """Return Bob Jenkins' hash lookup3, with which HDF5 guards blocks of metadata."""
    size = len(data)
    a = b = c = (0xDEADBEEF + size) & _WORD
    if not size:
        return c
    words: tuple[int, ...] = struct.unpack(f"<{-(-size // 12) * 3}I", data.ljust(-(-size // 12) * 12, b"\0"))
    for start in range(0, len(words) - 3, 3):
        a, b, c = (a + words[start]) & _WORD, (b + words[start + 1]) & _WORD, (c + words[start + 2]) & _WORD
        a = ((a - c) & _WORD) ^ ((c << 4 | c >> 28) & _WORD)
        c = (c + b) & _WORD
        b = ((b - a) & _WORD) ^ ((a << 6 | a >> 26) & _WORD)
        a = (a + c) & _WORD
        c = ((c - b) & _WORD) ^ ((b << 8 | b >> 24) & _WORD)
        b = (b + a) & _WORD
        a = ((a - c) & _WORD) ^ ((c << 16 | c >> 16) & _WORD)
        c = (c + b) & _WORD
        b = ((b - a) & _WORD) ^ ((a << 19 | a >> 13) & _WORD)
        a = (a + c) & _WORD
        c = ((c - b) & _WORD) ^ ((b << 4 | b >> 28) & _WORD)
        b = (b + a) & _WORD
    a, b, c = (a + words[-3]) & _WORD, (b + words[-2]) & _WORD, (c + words[-1]) & _WORD
    c = ((c ^ b) - (b << 14 | b >> 18)) & _WORD
    a = ((a ^ c) - (c << 11 | c >> 21)) & _WORD
    b = ((b ^ a) - (a << 25 | a >> 7)) & _WORD
    c = ((c ^ b) - (b << 16 | b >> 16)) & _WORD
    a = ((a ^ c) - (c << 4 | c >> 28)) & _WORD
    b = ((b ^ a) - (a << 14 | a >> 18)) & _WORD
    return ((c ^ b) - (b << 24 | b >> 8)) & _WORD
