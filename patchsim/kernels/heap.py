"""Keeps freed memory in the process, where the next call finds it mapped already."""

from __future__ import annotations

from functools import cache

import numpy as np


@cache
def keep() -> None:
    """Free one large array, once.

    After that glibc hands memory back to the system only beyond twice its size, and takes arrays
    of up to this size from what it keeps. Otherwise the maps of each call would be mapped and
    cleared anew page by page, which takes as long as computing them. Elsewhere it does nothing.
    """
    np.empty(2**25 - 2**16, np.uint8)
