"""Threads that share work: interrupts, errors and forks."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

import patchsim
from patchsim import threads


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def sharing(work, count):
    threads.share(lambda first, last: work(first), count, count * threads.LONGEST)


def side_by_side(work, count):
    threads.each(work, range(count))


def nested(work, count):
    """One job, in turn shared, for each thread."""
    threads.each(lambda job: sharing(work, count), range(2))


each_way = pytest.mark.parametrize("way", [sharing, side_by_side, nested])


def after(seconds, action):
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


@each_way
def test_an_interrupt_stops_all_threads(way):
    begun = []

    def work(_):
        begun.append(time.monotonic())
        time.sleep(0.02)

    main = threading.main_thread().ident
    timer = after(0.2, lambda: signal.pthread_kill(main, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        way(work, 1000)
    timer.join()
    stopped = len(begun)
    time.sleep(0.1)
    assert len(begun) == stopped < 100  # nothing goes on behind
    found = []
    way(found.append, 10)  # and they work again
    assert set(found) == set(range(10))


@each_way
def test_an_error_stops_the_other_threads_and_is_raised_once(way):
    begun = []

    def work(job):
        begun.append(job)
        time.sleep(0.01)
        if len(begun) > 5:
            raise RuntimeError(f"job {job}")

    with pytest.raises(RuntimeError, match="job") as caught:
        way(work, 1000)
    assert caught.value.__context__ is None
    assert len(begun) < 20


def test_one_thread_is_interrupted_between_blocks():
    torch.set_num_threads(1)
    main = threading.main_thread().ident
    timer = after(0.1, lambda: signal.pthread_kill(main, signal.SIGINT))
    begun = []
    with pytest.raises(KeyboardInterrupt):
        sharing(lambda first: (begun.append(first), time.sleep(0.01)), 1000)
    timer.join()
    assert len(begun) < 100


@pytest.mark.parametrize("backend", ["fused", "conv2d"])
def test_a_long_call_obeys_an_interrupt_soon(backend):
    image = torch.rand(3, 3000, 3000)
    kernel = image[:, :120, :120].clone()
    patchsim.similarity(image[:, :300, :300], kernel, "l2", backend=backend)  # compiles
    sent = []

    def interrupt():
        sent.append(time.monotonic())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    timer = after(0.3, interrupt)
    with pytest.raises(KeyboardInterrupt):
        patchsim.similarity(image, kernel, "l2", backend=backend)
    took = time.monotonic() - sent[0]
    timer.join()
    before = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - before < 0.1  # nothing goes on behind
    assert took < 3  # whole, it would take many times as long; the machine may be busy


FORK = """
import faulthandler, os, sys, threading, time, torch, patchsim
image = torch.rand(3, 512, 512)
kernel = image[:, 200:232, 100:132].clone()
masks = torch.ones(3, 32, 32)

def work():
    match = patchsim.find(image, kernel, "l2", backend="fft")[0]
    found = patchsim.l2_conv2d(image, kernel), patchsim.l2_fft(image, kernel, weight=masks)
    places = [divmod(int(scores.argmax()), 481) for scores in found]
    return [(match.y, match.x), *places] == [(200, 100)] * 3

def go_on():
    while True:
        patchsim.l2_fft(image, kernel)
        patchsim.find(image, kernel, "l2")

if sys.argv[1] == "warm":
    assert work()  # on all of torch's threads
threading.Thread(target=go_on, daemon=True).start()
for turn in range(4):
    time.sleep(0.07 * turn)
    child = os.fork()
    if not child:
        faulthandler.dump_traceback_later(60, exit=True)  # a deadline of the child's own
        os._exit(not work())
    assert os.waitpid(child, 0)[1] == 0, turn
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("state", ["warm", "cold"])
def test_a_child_that_is_forked_while_another_thread_computes_answers(state):
    """In a fresh process: cold, the other thread imports the compiler meanwhile."""
    process = subprocess.run([sys.executable, "-c", FORK, state], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
