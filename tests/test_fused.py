"""What is particular to fused: its operator, threads, cache and the compiled formula."""

import math
import os
import subprocess
import sys
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage import data

import patchsim
from patchsim import threads
from patchsim.backends import fused
from patchsim.kernels.emit import Arithmetic
from patchsim.metrics import METRICS
from patchsim.problem import problem_of
from patchsim.sums import pointwise, slide

L1 = fused.text_of(METRICS["l1"])


def random(*shape, seed=0, dtype=torch.float64):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_operator_keeps_torchs_rules(weighted):
    image, kernel = (random(2, 2, 9, 8).requires_grad_(), random(3, 2, 3, 2).requires_grad_())
    weight = random(3, 2, 3, 2, seed=1) if weighted else None
    torch.library.opcheck(
        torch.ops.patchsim.sums, (image, kernel, weight, L1, [2, 1], [1, 2]), raise_exception=True
    )


def wrong_calls():
    """Calls of the operator that would read beyond its tensors, or compute something else."""
    image, kernel = random(1, 2, 6, 7), random(3, 2, 3, 2)
    plain = {"image": image, "kernel": kernel, "weight": None, "expression": L1}
    plain |= {"stride": [1, 1], "dilation": [1, 1]}
    bytes_ = {"image": image.byte(), "kernel": kernel.byte()}
    for changed, message in (
        ({"kernel": random(3, 2, 7, 2)}, "no window fits: `kernel` covers 7 pixels .* of 6"),
        ({"dilation": [1, 7]}, "no window fits: `kernel` covers 8 pixels .* of 7"),
        ({"dilation": [2**62, 1]}, "no window fits"),
        ({"stride": [0, 1]}, "`stride` must be two numbers of at least 1"),
        ({"stride": [1, -1]}, "`stride` must be two numbers of at least 1"),
        ({"dilation": [0, 1]}, "`dilation` must be two numbers of at least 1"),
        ({"dilation": [1, -3]}, "`dilation` must be two numbers of at least 1"),
        ({"kernel": random(3, 1, 3, 2)}, "`image` has 2 channels, `kernel` 1"),
        ({"kernel": random(2, 3, 2)}, "`kernel` must have four dimensions"),
        ({"image": random(2, 6, 7)}, "`image` must have four dimensions"),
        ({"kernel": random(3, 2, 0, 2)}, "`kernel` must have four dimensions"),
        ({"image": random(1, 0, 6, 7), "kernel": random(3, 0, 3, 2)}, "four dimensions"),
        ({"weight": random(1, 2, 3, 2)}, "`weight` must have the shape of `kernel`"),
        ({"weight": random(3, 2, 3, 2).float()}, "`weight` is of float32"),
        ({"kernel": kernel.float()}, "`kernel` is of float32"),
        ({"image": image.half(), "kernel": kernel.half()}, "`image` must be of float32"),
        ({**bytes_, "expression": "0.5*p"}, "isn't a whole number"),
        ({**bytes_, "expression": "inf*p"}, "isn't a whole number"),
        ({**bytes_, "expression": "p**32"}, "isn't a whole number that 64 bits hold"),
        ({**bytes_, "expression": "p**7*80"}, "exceed 2\\*\\*63"),
        ({**bytes_, "weight": kernel.byte() + 2}, "`weight` of integers must be 0 or 1"),
        ({"expression": "print(p)"}, "is no expression of p and k"),
    ):
        yield {**plain, **changed}, message


def test_the_operators_check_what_they_are_given():
    """Programs that were exported are files that others send."""
    operators = torch.ops.patchsim
    for arguments, message in wrong_calls():
        with pytest.raises((ValueError, TypeError), match=message):
            operators.sums(*arguments.values())
        gradient = random(1, 3, 4, 6).to(arguments["image"].dtype)
        for operator in (operators.image_gradient, operators.template_gradient):
            with pytest.raises((ValueError, TypeError)):
                operator(gradient, *arguments.values())
    image, kernel = random(1, 2, 6, 7), random(3, 2, 3, 2)
    for shape in ((1, 3, 4, 5), (2, 3, 4, 6), (1, 3, 6, 4), (4, 6)):
        for operator in (operators.image_gradient, operators.template_gradient):
            with pytest.raises(ValueError, match="`gradient` must have the shape of the sums"):
                operator(random(*shape), image, kernel, None, L1, [1, 1], [1, 1])


def test_the_operators_take_any_layout_and_any_stride():
    image, kernel = random(6, 7, 2).permute(2, 0, 1)[None], random(3, 2, 2, 3).mT
    weight = random(1).expand(3, 2, 3, 2)
    for stride in ([1, 1], [2, 3], [2**40, 2**62]):
        for own in (None, weight):
            found = torch.ops.patchsim.sums(image, kernel, own, L1, stride, [1, 1])
            expected = pointwise.unfolded(
                METRICS["l1"].pointwise, image, kernel, own, [min(s, 7) for s in stride], [1, 1]
            )
            torch.testing.assert_close(found, expected)
    for shapes in (((0, 2, 6, 7), (3, 2, 3, 2)), ((1, 2, 6, 7), (0, 2, 3, 2))):
        found = torch.ops.patchsim.sums(*map(torch.zeros, shapes), None, L1, [1, 1], [1, 1])
        assert found.shape == (shapes[0][0], shapes[1][0], 4, 6)


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
@pytest.mark.parametrize("metric", ["l1", "l2", "rmse", "l4", "hue", "zncc"])
def test_torch_compile(metric):
    """One graph without breaks, forward and backward."""

    def scores(image, kernel):
        return patchsim.similarity(image, kernel, metric, stride=2, backend="fused")

    inputs = random(1, 2, 9, 8).requires_grad_(), random(3, 2, 3, 2).requires_grad_()
    compiled = torch.compile(scores, backend="aot_eager", fullgraph=True)
    found, expected = compiled(*inputs), scores(*inputs)
    torch.testing.assert_close(found, expected)
    gradients = (torch.autograd.grad(result.sum(), inputs) for result in (found, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.deep
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's, of its own functions
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_formula_for_other_devices(weighted, dtype):
    """Forced onto the CPU, where torch compiles it as well."""
    image, kernel = (random(2, 3, 20, 21) * 255).to(dtype), (random(2, 3, 5, 4) * 255).to(dtype)
    weight = (random(2, 3, 5, 4, seed=2) > 0.5).to(dtype) if weighted else None
    problem = problem_of(image, kernel, (2, 1), 0, (1, 2), "mask" if weighted else "none")
    for metric in (METRICS["l1"], METRICS["l2"]):
        found = fused.compiled(metric, problem, image, kernel, weight)
        expected = fused.run(metric, problem, image, kernel, weight)
        if dtype is torch.uint8:
            assert torch.equal(found.long(), expected)
        else:
            bound = fused.FUSED.error(metric, problem, image, kernel, weight)
            assert ((found - expected).abs() <= 2 * bound).all()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("metric", ["l1", "l2", "l4", "hamming"])
def test_fused_gradients_are_those_of_the_formula(metric, weighted):
    pointwise_ = METRICS[metric].pointwise
    text = fused.text_of(METRICS[metric])
    for stride, dilation in (((1, 1), (1, 1)), ((2, 3), (1, 1)), ((3, 2), (2, 3))):
        image, kernel = random(2, 3, 40, 300), random(2, 3, 7, 12, seed=1)
        weight = random(2, 3, 7, 12, seed=2) if weighted else None
        inputs = image.requires_grad_(), kernel.requires_grad_()
        expected = pointwise.unfolded(pointwise_, *inputs, weight, stride, dilation)
        slopes = torch.rand_like(expected)
        found = torch.ops.patchsim.sums(*inputs, weight, text, stride, dilation)
        for one, other in zip(
            torch.autograd.grad(found, inputs, slopes),
            torch.autograd.grad(expected, inputs, slopes),
            strict=True,
        ):
            torch.testing.assert_close(one, other)


@given(
    st.sampled_from([torch.uint8, torch.int16, torch.float32, torch.float64]),
    st.tuples(st.integers(1, 3), st.integers(1, 9)),
    st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 5), st.integers(1, 300)),
    st.booleans(),
)
def test_phases(dtype, stride, shape, cropped):
    image = torch.arange(math.prod(shape)).reshape(shape).to(dtype)
    image = image[..., 1:] if cropped and shape[3] > 1 else image
    (sy, sx), (*_, height, width) = stride, image.shape
    rows, cols = -(-height // sy), -(-width // sx)
    planes, pitch = slide.phases(image, stride, (2, height))
    assert pitch == cols
    assert planes.shape[2:4] == (min(sy, 2), min(sx, height))
    padded = torch.nn.functional.pad(image, (0, cols * sx - width, 0, rows * sy - height))
    for i, j in product(*map(range, planes.shape[2:4])):
        phase = torch.from_numpy(planes[:, :, i, j, : rows * cols])
        assert torch.equal(phase, padded[..., i::sy, j::sx].flatten(2))


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_the_number_of_threads_makes_no_difference(stride):
    image, kernel = random(3, 300, 300, dtype=torch.float32), random(3, 16, 16, seed=1).float()
    before = torch.get_num_threads()
    try:
        maps = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            maps.append(patchsim.l1_fused(image, kernel, stride=stride))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(maps[0], maps[1])
    assert torch.equal(maps[0], maps[2])


def test_blocks_cover_the_range_once(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    for count, multiple in ((1, 1), (7, 2), (100, 8), (12, 1)):
        rows = [0] * count

        def work(first, last, rows=rows, multiple=multiple):
            assert first % multiple == 0
            for row in range(first, last):
                rows[row] += 1

        threads.share(work, count, 10**9, multiple)
        assert rows == [1] * count


def test_what_is_shared_is_not_shared_again(monkeypatch):
    """A thread that waited for one that waits for it would wait for ever."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    pieces = []

    def work(first, last):
        threads.share(lambda *piece: pieces.append(piece), 100 * (last - first), 10**9)

    threads.share(work, 4, 10**8)
    assert pieces == [(0, 200), (0, 200)]
    assert threads.count_threads() == 2


def test_errors_of_threads_are_raised():
    def work(first, last):
        if first > 0:
            raise RuntimeError("in a block")

    with pytest.raises(RuntimeError, match="in a block"):
        threads.share(work, 100, 10**9)


def test_torch_uses_one_thread_in_each_of_several():
    before, found = torch.get_num_threads(), []
    threads.each(lambda job: found.append((job, torch.get_num_threads())), range(4))
    assert sorted(found) == [(job, 1) for job in range(4)]
    assert torch.get_num_threads() == before


FORK = """
import faulthandler, os, torch
from patchsim.sums import slide
arguments = torch.rand(1, 3, 300, 300), torch.rand(1, 3, 16, 16), None, "abs((p-k))", (1, 1), (1, 1)
slide.sums(*arguments)
child = os.fork()
faulthandler.dump_traceback_later(60, exit=True)
slide.sums(*arguments)
if child:
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_has_threads_of_its_own():
    # In a fresh process: torch's own threads don't survive a fork either.
    process = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


CALL = "import torch, patchsim; print(patchsim.l1_fused(torch.ones(1, 4, 4), torch.ones(1, 2, 2)))"
COMPILED = (
    "import numba.core.dispatcher as d; old = d._FunctionCompiler._compile_core\n"
    "def core(*a): print('compiled'); return old(*a)\n"
    "d._FunctionCompiler._compile_core = core\n"
)


def start(code, cache):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.deep
def test_kernels_are_compiled_once(tmp_path):
    processes = [start(CALL, tmp_path) for _ in range(3)]  # that share a cache
    for process in processes:
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        assert "tensor([[1., 1., 1.]" in output
    assert list(tmp_path.rglob("*.nbc"))
    output, _ = start(COMPILED + CALL, tmp_path).communicate()
    assert "tensor([[1., 1., 1.]" in output
    assert "compiled" not in output


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path):
    nowhere = "import numba.core.caching as c; c.CacheImpl._locator_classes.clear()\n"
    output, errors = start(nowhere + COMPILED + CALL, tmp_path).communicate()
    assert "tensor([[1., 1., 1.]" in output, errors
    assert "compiled" in output


def test_importing_compiles_nothing_and_planning_fits_nothing():
    code = (
        "import sys, torch, patchsim; from patchsim.sums.fitted import fit; "
        "print('numba' in sys.modules); patchsim.plan(torch.zeros(1, 3, 3), torch.zeros(1, 2, 2)); "
        "print(fit.cache_info().currsize)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout == "False\n0\n"


@pytest.mark.deep
def test_importing_takes_hardly_longer_than_torch():
    def seconds(module):
        code = (
            f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
        )
        command = [sys.executable, "-c", code]
        # As users have it: what is imported was compiled before.
        kept = {n: v for n, v in os.environ.items() if n != "PYTHONDONTWRITEBYTECODE"}
        return float(subprocess.run(command, capture_output=True, check=True, env=kept).stdout)

    # In turns, as the machine's other work slows both.
    ours, torchs = zip(*((seconds("patchsim"), seconds("torch")) for _ in range(7)), strict=True)
    assert min(ours) < 1.2 * min(torchs)


def test_integers_take_no_more_bits_than_they_need():
    def arithmetic(metric, dtype):
        return Arithmetic(fused.expression_of(METRICS[metric]), dtype)

    bytes_ = arithmetic("l1", torch.uint8)
    assert (bytes_.width, bytes_.part, bytes_.group) == (8, "uint16", 257)
    squares = arithmetic("l2", torch.uint8)
    assert (squares.width, squares.part, squares.group) == (16, "uint32", 66051)
    words = arithmetic("l1", torch.int16)
    assert (words.width, words.part, words.group) == (16, "uint32", 65537)
    products = arithmetic("l2", torch.int16)
    assert (products.width, products.part) == (32, "int64")


@pytest.mark.parametrize("metric", ["l1", "l2"])
def test_sums_of_many_floats_do_not_drift(metric):
    """160·160·3 taps of an 8-bit photo: no further off than twice torch's own pairwise sums."""
    photo = torch.from_numpy(data.astronaut().copy()).permute(2, 0, 1).float() / 255
    image, kernel = photo[:, :200, :200].contiguous(), photo[:, 100:260, 150:310].contiguous()
    exact = patchsim.distance(image.double(), kernel.double(), metric)
    fused_off, torch_off = (
        patchsim.distance(image, kernel, metric, backend=backend) / exact - 1
        for backend in ("fused", "unfold")
    )
    assert fused_off.abs().max() <= 2 * torch_off.abs().max()
    assert abs(fused_off.mean()) <= torch_off.abs().max() / 2
