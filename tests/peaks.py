"""Measures how far calls go beyond `patchsim.options.max_memory`: each in a process of its own.

``python tests/peaks.py SEED COUNT SIDE`` draws so many problems, with images of at most SIDE pixels
a side, and prints a line of JSON for each: what was drawn, and bytes at the peak of memory beyond
input, output and budget. Without arguments it reads problems, a line each, of which only what
differs from `PLAIN` need be told. A small parent has imported everything and forks a child for each
problem.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import random
import re
import resource
import signal
import sys
import traceback
from pathlib import Path

import numba  # noqa: F401  # so that children needn't
import numpy as np
import torch

import patchsim
from patchsim.backends import BACKENDS
from patchsim.metrics import METRICS
from patchsim.problem import INTEGER_RANGES

STATUS = Path("/proc/self/status")
DTYPES = ("float32", "float32", "uint8", "uint8", "float64", "float16", "bfloat16", "int16", "bool")
PLAIN = {
    "call": "similarity",
    "metric": "l1",
    "dtype": "float32",
    "backend": "auto",
    "budget": 2**24,
    "threads": 2,
    "batch": 1,
    "channels": 1,
    "templates": 1,
    "image": [600, 600],
    "kernel": [16, 16],
    "stride": 1,
    "padding": 0,
    "dilation": 1,
    "weight": None,
    "layout": "plain",
    "values": "noise",
    "seed": 0,
    "k": 3,
    "threshold": None,
    "sizes": 1,
}
#: Seconds of a processor that a problem may take; small tiles are slow.
SECONDS = 20
#: What users call; "gradient" is a map with its gradients by image and template.
CALLS = ("similarity", "similarity", "distance", "sum", "error_bound", "gradient", "find", "find")
#: Taps of all windows that a backend computes in a few seconds, at most.
AFFORDABLE = {"loop": 2e6, "unfold": 2e9, "shift": 2e9, "values": 2e10, "levels": 2e10}


def draw(choice: random.Random, side: int) -> dict:
    """Draw a problem, as something that JSON holds."""
    call = choice.choice(CALLS)
    metric = choice.choice(sorted(METRICS))
    named = [b.name for b in BACKENDS.values() if call != "find" or not b.approximate]
    own = {
        "call": call,
        "metric": metric,
        "dtype": choice.choice(DTYPES),
        "backend": choice.choice(["auto", "auto", *named]),
        "budget": 2 ** choice.choice([22, 22, 23, 24, 24, 25, 26, 27, 28]),
        "threads": choice.choice([1, 2, 4, 8]),
        "batch": choice.choice([1, 1, 1, 3]) if call != "find" else 1,
        "channels": 3 if metric == "hsv" else choice.choice([1, 1, 3, 4]),
        "templates": choice.choice([1, 1, 1, 4, 16]),
        "image": [_length(choice, choice.choice([32, side // 6]), side) for _ in range(2)],
        "kernel": [_length(choice, 1, 24 if choice.random() < 0.8 else side // 4)] * 2,
        "stride": [1, 1],
        "padding": [0, 0],
        "dilation": [1, 1],
        "weight": choice.choice([None, None, None, "mask", "real"]),
        "layout": choice.choice(["plain", "plain", "last", "cut", "turned"]),
        "values": choice.choice(["noise", "noise", "noise", "few", "flat"]),
        "seed": choice.randrange(2**31),
    }
    if call == "gradient":
        own["dtype"] = choice.choice([name for name in DTYPES if "float" in name])
    if choice.random() < 0.5:
        own["kernel"][1] = _length(choice, 1, 24)
    if choice.random() < 0.3:
        own["stride"] = [_length(choice, 1, choice.choice([4, 64, 2 * side])) for _ in range(2)]
    if call != "find":
        if choice.random() < 0.2:
            own["padding"] = [choice.choice([0, 3, side // 8]) for _ in range(2)]
        if choice.random() < 0.15:
            own["dilation"] = [choice.choice([1, 2, 5]) for _ in range(2)]
    else:
        own["k"], own["threshold"] = choice.choice([(1, None), (1, None), (5, None), (None, 0.9)])
        own["sizes"] = choice.choice([1, 1, 1, 3])
    return own


def _length(choice: random.Random, least: int, most: int) -> int:
    """Draw a length, as likely between 10 and 20 as between 100 and 200."""
    return round(math.exp(choice.uniform(math.log(least), math.log(max(least, most) + 0.4))))


def affordable(own: dict) -> bool:
    """Tell whether it takes seconds."""
    windows = math.prod(
        max(1, (n + 2 * p - k) // s + 1)
        for n, p, k, s in zip(
            own["image"], own["padding"], own["kernel"], own["stride"], strict=True
        )
    )
    sums = windows * own["batch"] * own["templates"]
    taps = sums * own["channels"] * math.prod(own["kernel"])
    slow = (
        2e9
        if own["call"] == "gradient" or own["weight"] or own["metric"] == "intersection"
        else 2e10
    )
    return taps < min(slow, AFFORDABLE.get(own["backend"], math.inf)) and sums < 3e7


def tensors(own: dict) -> tuple:
    """Make image, templates and weight."""
    generator = np.random.default_rng(own["seed"])
    dtype = getattr(torch, own["dtype"])
    batch, channels, (rows, cols) = own["batch"], own["channels"], own["image"]

    def made(*shape: int) -> torch.Tensor:
        values = torch.from_numpy(generator.random(shape, np.float32))
        if own["values"] != "noise":
            values = (values * 4).floor() / 4 if own["values"] == "few" else values * 0 + 0.5
        if dtype is torch.bool:
            return values > 0.5
        return (values * (255 if dtype in INTEGER_RANGES else 1)).to(dtype)

    image = {
        "plain": lambda: made(batch, channels, rows, cols),
        "last": lambda: made(batch, rows, cols, channels).permute(0, 3, 1, 2),
        "cut": lambda: made(batch, channels, rows + 3, cols + 5)[:, :, 3:, 5:],
        "turned": lambda: made(batch, channels, cols, rows).transpose(2, 3),
    }[own["layout"]]()
    kernel = made(own["templates"], channels, *own["kernel"])
    if own["values"] == "noise" and all(
        k <= n for k, n in zip(own["kernel"], own["image"], strict=True)
    ):
        kernel[0] = image[0, :, -own["kernel"][0] :, -own["kernel"][1] :]
    weight = None
    if own["weight"]:
        weight = torch.from_numpy(generator.random(own["kernel"], np.float32)) + 0.1
        weight = (weight > 0.3).float() if own["weight"] == "mask" else weight
    return image, kernel, weight


def prepared(own: dict):
    """Return a function without arguments that makes the call."""
    image, kernel, weight = tensors(own)
    metric, backend = own["metric"], own["backend"]
    more = {"weight": weight, "data_range": 255 if "int" in own["dtype"] else 1}
    more["stride"] = own["stride"]
    if own["call"] == "find":
        sizes = [
            one[:, : max(1, one.shape[1] - n), : max(1, one.shape[2] - n)]
            for one in kernel
            for n in range(own["sizes"])
        ]
        if own["sizes"] > 1 and weight is not None:
            more["weight"] = [weight[: k.shape[1], : k.shape[2]] for k in sizes]
        kernels = kernel if own["sizes"] == 1 else sizes
        more |= {"k": own["k"], "threshold": own["threshold"], "backend": backend}
        return lambda: patchsim.find(image[0], kernels, metric, **more)
    more |= {"padding": own["padding"], "dilation": own["dilation"]}
    if own["call"] == "error_bound":
        return lambda: patchsim.error_bound(image, kernel, metric, backend, **more)
    more["backend"] = backend
    if own["call"] in ("distance", "sum"):
        more["reduction"] = "sum" if own["call"] == "sum" else "mean"
        return lambda: patchsim.distance(image, kernel, metric, **more)
    if own["call"] == "similarity":
        return lambda: patchsim.similarity(image, kernel, metric, **more)
    image, kernel = (t.detach().requires_grad_() for t in (image, kernel))

    def gradient():
        scores = patchsim.similarity(image, kernel, metric, **more)
        return scores, *torch.autograd.grad(scores.sum(), (image, kernel))

    return gradient


def resident(name: str) -> int:
    """Read VmHWM, the peak, or VmRSS, in bytes."""
    return int(re.search(f"{name}:(.*)kB", STATUS.read_text())[1]) * 1024


def size_of(result) -> int:
    """Return the bytes of maps; a match is about a kilobyte."""
    if isinstance(result, torch.Tensor):
        return result.numel() * result.element_size()
    if isinstance(result, tuple):
        return sum(map(size_of, result))
    return 1024 * len(result)


def measure(own: dict) -> int | None:
    """Return the bytes beyond input, output and budget; None if the call is refused."""
    torch.set_num_threads(own["threads"])
    patchsim.options.max_memory = own["budget"]
    call = prepared(own)
    try:
        call()  # loads kernels, and what compiles them, and starts threads
    except (ValueError, TypeError, NotImplementedError) as error:
        own["refused"] = f"{type(error).__name__}: {str(error)[:300]}"
        return None
    ctypes.CDLL(None).malloc_trim(0)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    result = call()
    more = 0
    if own["call"] == "gradient":
        # Beside the gradients, autograd holds those of a tile, as large, and their sums; and of
        # the map two copies.
        more = 2 * sum(t.numel() * max(4, t.element_size()) for t in result)
    return resident("VmHWM") - before - size_of(result) - own["budget"] - more


def forked(own: dict) -> dict:
    """Measure in a child, and return the problem with what was found."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        try:
            own["beyond"] = measure(own)
        except BaseException:
            own["error"] = traceback.format_exc()[-1500:]
        with os.fdopen(write, "w") as pipe:
            json.dump(own, pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL):
        return own | {"refused": f"it takes more than {SECONDS} seconds"}
    return json.loads(text) if text else own | {"error": f"ended with status {status}"}


def main(seed: int, count: int, side: int, calls: str = "") -> None:
    """Draw problems until so many aren't refused, and measure each."""
    choice = random.Random(seed)
    while count:
        own = draw(choice, side)
        if affordable(own) and (not calls or own["call"] in calls.split(",")):
            found = report(own)
            count -= "refused" not in found


def report(own: dict) -> dict:
    """Measure a problem and print what was found."""
    found = forked(own)
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    return found


def read(line: str) -> dict:
    """Read a problem; an int stands for a pair."""
    own = PLAIN | json.loads(line)
    for name in ("stride", "padding"):
        own[name] = [own[name]] * 2 if isinstance(own[name], int) else own[name]
    return own


if __name__ == "__main__":
    torch.set_num_threads(1)  # threads don't survive a fork
    if len(sys.argv) > 1:
        main(*map(int, sys.argv[1:4]), *sys.argv[4:])
    else:
        for line in sys.stdin:
            report(read(line))
