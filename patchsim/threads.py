"""Shares work that releases the interpreter's lock among as many threads as torch would use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from threading import Barrier, local
from typing import Any

import torch

#: Operations below which waking another thread takes longer than it saves, and above which blocks
#: are made smaller than a thread's share, so that a thread that is held up holds up little.
WORTH_SHARING, WORTH_BALANCING = 20_000_000, 100_000_000
#: Numbers below which torch uses one thread (its grain size).
GRAIN = 2**15


_here = local()


def count_threads() -> int:
    """Return how many threads this one may use: torch's number, or 1 if it is one of several."""
    if torch.compiler.is_compiling():  # which can't read it
        return 1
    return getattr(_here, "count", 0) or torch.get_num_threads()


@contextmanager
def alone() -> Iterator[None]:
    """Let this thread count as one of several, each of which works by itself."""
    before, _here.count = getattr(_here, "count", 0), 1
    try:
        yield
    finally:
        _here.count = before


def sharing(operations: int) -> int:
    """Return how many threads share so much work."""
    return 1 if operations < WORTH_SHARING else count_threads()


def share(work: Callable[[int, int], None], count: int, operations: int, multiple: int = 1) -> None:
    """Call ``work(first, last)`` for blocks that cover ``range(count)``, on several threads.

    What these share in turn, each of them does alone. Blocks are multiples of `multiple`, but for
    the last; `operations` is the whole work's size.
    """
    every = sharing(operations)
    threads = min(every, -(-count // multiple))
    if threads <= 1:
        work(0, count)
        return
    pieces = threads * 4 if operations > WORTH_BALANCING else threads
    step = max(1, round(count / (pieces * multiple))) * multiple
    blocks = iter([(first, min(first + step, count)) for first in range(0, count, step)])

    def loop() -> None:
        before, _here.count = getattr(_here, "count", 0), 1
        try:
            for first, last in blocks:
                work(first, last)
        finally:
            _here.count = before

    # One pool, however many of its threads have work: each keeps memory of its own.
    helpers = [_pool(every - 1).submit(loop) for _ in range(threads - 1)]
    loop()
    for helper in helpers:
        helper.result()


def each(work: Callable[[Any], None], jobs: Sequence[Any], most: int) -> None:
    """Call ``work(job)`` for every job, on several threads, each of which runs torch by itself.

    At most so many at a time.
    """
    threads = count_threads()
    if min(threads, most, len(jobs)) <= 1:
        for job in jobs:
            work(job)
        return
    remaining = iter(jobs)

    def loop() -> None:
        for job in remaining:
            work(job)

    workers = [_single_threaded(threads).submit(loop) for _ in range(min(threads, most))]
    for worker in workers:
        worker.result()


@cache
def _single_threaded(threads: int) -> ThreadPoolExecutor:
    """Start threads in which torch uses no others."""
    started = Barrier(threads)

    def start() -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # makes torch take that number for this thread, once and for all
        _here.count = 1
        started.wait()

    pool = ThreadPoolExecutor(threads, thread_name_prefix="patchsim", initializer=start)
    for future in [pool.submit(int) for _ in range(threads)]:
        future.result()
    # torch gives new threads the number that was set last, wherever that was.
    torch.set_num_threads(threads)
    return pool


def _forget() -> None:
    _pool.cache_clear()
    _single_threaded.cache_clear()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="patchsim")


# Threads don't survive a fork; a child that waited for its parent's would wait for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
