"""Compiled kernels on the disk, each with a digest, so that it is no loss if one is damaged.

Numba's own files would raise on every call once one is damaged, or run whatever lies there.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numba
from numba.core.caching import FunctionCache, NullCache
from numba.core.serialize import dumps

#: Bytes of a digest, with which a file begins.
_DIGEST = 32


def place_for(function: Callable[..., Any]) -> Any:
    """Return where Numba is to keep a function's code; where there is no place, it keeps none."""
    try:
        return _Kept(function)  # type: ignore[no-untyped-call]
    except (RuntimeError, OSError):
        return NullCache()


class _Kept(FunctionCache):
    """Keeps a function's code in a file for each signature and processor that it is compiled for.

    Numba's key tells them apart: it has the processor's name and features.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        target_context.refresh()
        path = self._path(sig, target_context.codegen())
        with suppress(OSError):
            kept = path.read_bytes()
            if kept[:_DIGEST] == self._digest(path, kept[_DIGEST:]):
                return self._impl.rebuild(target_context, pickle.loads(kept[_DIGEST:]))
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        if not self._impl.check_cachable(data):
            return
        path = self._path(sig, data.codegen)
        code = dumps(self._impl.reduce(data))  # type: ignore[no-untyped-call]
        with suppress(OSError):  # a disk that is full, or may not be written any more
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, self._digest(path, code) + code)

    def _path(self, sig: Any, codegen: Any) -> Path:
        key = self._index_key(sig, codegen)  # type: ignore[no-untyped-call]
        digest = hashlib.sha256(str(key).encode()).hexdigest()[:16]
        return Path(self.cache_path) / f"{self._impl.filename_base}.{digest}.nbc"

    def _digest(self, path: Path, code: bytes) -> bytes:
        """Return the digest of some code and of what else it must be kept for."""
        stamp = self._impl.locator.get_source_stamp()
        return hashlib.sha256(
            f"{numba.__version__} {stamp!r} {path.name} ".encode() + code
        ).digest()


def _write(path: Path, contents: bytes) -> None:
    """Write a file that others see whole or not at all."""
    own = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
    try:
        own.write_bytes(contents)
        os.replace(own, path)
    finally:
        own.unlink(missing_ok=True)
