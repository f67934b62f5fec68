"""Shares work that releases the interpreter's lock among as many threads as torch would use."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from threading import Barrier, local
from typing import Any

import torch

from patchsim.once import making

#: Operations below which waking another thread takes longer than it saves, and above which blocks
#: are made smaller than a thread's share, so that a thread that is held up holds up little.
WORTH_SHARING, WORTH_BALANCING = 20_000_000, 100_000_000
#: Operations of the largest block: some milliseconds, a tenth of a second where they are slow.
#: Between blocks a thread learns that it was interrupted, or that another one failed.
LONGEST = 1_000_000_000
#: Numbers below which torch uses one thread (its grain size).
GRAIN = 2**15

#: Whether this process was forked, and `settle` wasn't called since.
forked = False


class _Task:
    """Jobs that threads take in turn, until none is left or one of them fails.

    What fails, be it interrupted, stops all the others at their next job, those of the tasks that
    they share in turn included.
    """

    def __init__(self, work: Callable[..., None], jobs: Sequence[tuple[Any, ...]] = ()) -> None:
        self.work, self.jobs = work, iter(jobs)
        self.error: BaseException | None = None

    def check(self) -> None:
        """Raise if a thread of this task failed."""
        if self.error is not None:
            raise _StoppedError

    def loop(self) -> None:
        """Take jobs on this thread, which is one of several meanwhile."""
        before = _here.count, _here.task
        _here.count, _here.task = 1, self
        try:
            for job in self.jobs:
                self.check()
                self.work(*job)
        except BaseException as error:
            self.error = self.error or error
        finally:
            _here.count, _here.task = before

    def run(self, pool: ThreadPoolExecutor, helpers: int, *, joins: bool) -> None:
        """Take jobs on so many threads of a pool, and on this one if it `joins`."""
        futures: list[Future[None]] = []
        try:
            for _ in range(helpers):
                futures.append(pool.submit(self.loop))
            if joins:
                self.loop()
            for future in futures:
                # What hasn't begun has nothing left to do.
                if not (joins and future.cancel()):
                    future.result()
        except BaseException as error:  # such as an interrupt while this thread waits
            self.error = self.error or error
        if self.error is not None:
            for future in futures:
                future.cancel()
            wait(futures)
            try:
                raise self.error
            finally:
                self.error = None  # its traceback holds this task


class _StoppedError(Exception):
    """Another thread has failed, so that nothing of this one is wanted."""


class _Here(local):
    """What each thread knows.

    Attributes
    ----------
    count : int
        How many threads it may use; 0: as many as torch.
    task : _Task
        What it works on.
    compiler : lock or None
        What it holds while it forks.
    """

    count = 0
    task = _Task(lambda: None)
    compiler: Any = None


_here = _Here()


def count_threads() -> int:
    """Return how many threads this one may use: torch's number, or 1 if it is one of several."""
    if torch.compiler.is_compiling():  # which can't read it
        return 1
    return _here.count or torch.get_num_threads()


@contextmanager
def alone() -> Iterator[None]:
    """Let this thread count as one of several, each of which works by itself."""
    before, _here.count = _here.count, 1
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
    the last; `operations` is the whole work's size. What a block raises is raised, and so is a
    `KeyboardInterrupt`, when all threads have stopped; blocks that weren't begun are left out.
    """
    every = sharing(operations)
    threads = min(every, -(-count // multiple))
    if threads <= 1 and operations <= LONGEST:
        work(0, count)
        return
    pieces = threads * 4 if operations > WORTH_BALANCING else threads
    pieces = max(pieces, operations // LONGEST)
    step = max(1, round(count / (pieces * multiple))) * multiple
    blocks = [(first, min(first + step, count)) for first in range(0, count, step)]
    if threads <= 1:
        for first, last in blocks:
            _here.task.check()
            work(first, last)
    else:
        # One pool, however many of its threads have work: each keeps memory of its own.
        _Task(work, blocks).run(_pool(every - 1), threads - 1, joins=True)


def each(work: Callable[[Any], None], jobs: Iterable[Any], most: int = sys.maxsize) -> None:
    """Call ``work(job)`` for every job, on several threads, each of which runs torch by itself.

    At most so many at a time. Errors are raised as `share` does.
    """
    threads, jobs = count_threads(), list(jobs)
    if min(threads, most, len(jobs)) <= 1:
        for job in jobs:
            _here.task.check()
            work(job)
        return
    task = _Task(work, [(job,) for job in jobs])
    task.run(_single_threaded(threads), min(threads, most), joins=False)


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
    try:
        for future in [pool.submit(int) for _ in range(threads)]:
            future.result()
    except BaseException:
        started.abort()  # interrupted: nobody waits for the others
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        # torch gives new threads the number that was set last, wherever that was.
        torch.set_num_threads(threads)
    return pool


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="patchsim")


def _wait_for_compiler() -> None:
    """Let a fork wait until no other thread compiles, nor imports the compiler.

    The child would have none of the threads, but the locks that they hold.
    """
    _here.compiler = None
    making.acquire()
    if "numba" in sys.modules:
        import numba

        _here.compiler = numba.core.compiler_lock.global_compiler_lock
        _here.compiler.acquire()


def _release_compiler() -> None:
    if _here.compiler is not None:
        _here.compiler.release()
    making.release()


def _begin_anew() -> None:
    """Forget the threads of the parent: those that wait for them wait for ever."""
    _release_compiler()
    _pool.cache_clear()
    _single_threaded.cache_clear()
    global forked
    forked = True


def settle() -> None:
    """Let torch use no other thread in a forked process: its own don't survive a fork, either."""
    global forked
    torch.set_num_threads(1)
    forked = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_wait_for_compiler,
        after_in_parent=_release_compiler,
        after_in_child=_begin_anew,
    )
