"""Source of the kernels for overlap-save, to be filled in and compiled by `patchsim.kernels.jit`.

A transform of a tile (L, M) works on blocks (length, 2, V): V signals side by side (see
`patchsim.kernels.butterflies`), real and imaginary parts. First V columns at a time are
transformed, then, turned, V rows. A spectrum is stored as it comes out, (L/V, M, 2, V), its
frequencies in the order of reversed digits on both axes: products don't mind, and the inverse
begins with that order.
"""

from __future__ import annotations

from collections.abc import Sequence

from patchsim.kernels.butterflies import RADICES, REGISTER

_LOOPS = """
@njit
def {name}(block, length, radices, roots):
    blocks = {blocks}
    {start}
    for i in {order}:
        radix = radices[i]
        {before}
        step = part * {pair}
        for b in range(blocks):
            place, root = block + b * radix * step, roots
            for j in range(part):
{calls}
                place += {pair}
                root += 2 * (radix - 1) * {size}
        {after}
"""

_FORWARD = {
    "blocks": "1",
    "start": "part = length",
    "order": "range(radices.size)",
    "before": "part //= radix",
    "after": "roots += part * 2 * (radix - 1) * {size}\n        blocks *= radix",
}

_BACKWARD = {
    "blocks": "length",
    "start": "part = 1",
    "order": "range(radices.size - 1, -1, -1)",
    "before": "blocks //= radix\n        roots -= part * 2 * (radix - 1) * {size}",
    "after": "part *= radix",
}

#: Turns a block of V rows of a tile into one of V columns, or the other way round.
_TURN = """
@njit
def turn(source, source_step, target, target_step, count):
    for _ in range(count):
        transpose(source, {pair}, target, {pair})
        transpose(source + {register}, {pair}, target + {register}, {pair})
        source += source_step
        target += target_step
"""

#: See `patchsim.kernels.jit.spectra`.
_SPECTRA = """
def kernel(factors, spectra, shape, down, down_roots, across, across_roots, first, last):
    length, breadth = shape
    _, height, width = factors.shape
    own = np.empty(2 * length * {lanes} + {lanes}, np.{total})
    skip = (-own.ctypes.data % {register}) // {size}
    block = own[skip : skip + 2 * length * {lanes}].reshape(length, 2, {lanes})
    place = block.ctypes.data
    scale = np.{total}(1 / (length * breadth))
    for plane in range(first, last):
        spectrum = spectra[plane]
        spectrum[:] = 0
        for left in range(0, width, {lanes}):
            block[:] = 0
            for y in range(height):
                for x in range(min({lanes}, width - left)):
                    block[y, 0, x] = scale * factors[plane, y, left + x]
            forward(place, length, down, down_roots.ctypes.data)
            target = spectrum.ctypes.data + left * {pair}
            turn(place, {pair} * {lanes}, target, {pair} * breadth, length // {lanes})
        for row in range(length // {lanes}):
            start = spectrum.ctypes.data + row * breadth * {pair}
            forward(start, breadth, across, across_roots.ctypes.data)
"""

#: See `patchsim.kernels.jit.overlap_save`.
_OVERLAP_SAVE = """
def kernel(image, centre, spectra, boxes, constants, sums, steps, shape, size, grid, valid, \
stride, down, down_roots, across, across_roots, first, last):
    (to_image, to_channel, to_row), (height, width), (length, breadth) = steps, shape, size
    batch, templates, rows, cols = sums.shape
    sy, sx = stride
    depth = {texts} * centre.size
    tile, strip = length * breadth * {pair} // {lanes}, breadth * {pair}
    longest = 2 * max(length, breadth) * {lanes}
    own = np.empty(2 * (depth + 1) * length * breadth + longest + {lanes}, np.{total})
    skip = (-own.ctypes.data % {register}) // {size}
    block = own[skip : skip + 2 * length * {lanes}].reshape(length, 2, {lanes})
    place = block.ctypes.data
    planes = place + longest * {size}
    result = planes + depth * tile
    skip += longest + 2 * depth * length * breadth
    columns = own[skip : skip + 2 * length * breadth].reshape(-1, length, 2, {lanes})
    count, strips = batch * grid[0] * grid[1], length // {lanes}
    for job in range(first, last):
        for left in range(0, breadth, {lanes}):
            for c in range(centre.size):
                middle = centre[c]
{gathers}
        for i in range(depth * strips):
            forward(planes + i * strip, breadth, across, across_roots.ctypes.data)
        for n in range(templates):
            for row in range(strips):
                for c in range(depth):
                    a = planes + c * tile + row * strip
                    b = spectra.ctypes.data + (n * depth + c) * tile + row * strip
                    if c == 0:
                        for x in range(0, strip, {pair}):
                            multiply(place + x, a + x, b + x)
                    else:
                        for x in range(0, strip, {pair}):
                            multiply_add(place + x, a + x, b + x)
                backward(place, breadth, across, across_roots.ctypes.data + across_roots.nbytes)
                target = result + row * {pair} * {lanes}
                turn(place, {pair} * {lanes}, target, {pair} * length, breadth // {lanes})
            for left in range(0, valid[1], {lanes}):
                start = result + left * length * {pair} // {lanes}
                backward(start, length, down, down_roots.ctypes.data + down_roots.nbytes)
            for part in range(2):
                if 2 * job + part == count:
                    break
                image_row, column = divmod(2 * job + part, grid[1])
                b, edge = image_row // grid[0], column * valid[1]
                top, here, constant = image_row % grid[0] * valid[0], sums[b, n], constants[n]
                bottom = min(rows, (top + valid[0] - 1) // sy + 1)
                for left in range(0, valid[1], {lanes}):
                    start = edge + left
                    inside = min({lanes}, valid[1] - left)
                    wholly = sx == 1 and inside == {lanes} and start + {lanes} <= cols
                    for y in range((top + sy - 1) // sy, bottom):
                        products = columns[left // {lanes}, y * sy - top, part]
                        if wholly:
                            box = boxes[b, 0, y, start : start + {lanes}]
                            line = here[y, start : start + {lanes}]
                            for x in range({lanes}):
                                base, product = box[x], products[x]
                                value = {value}
                                line[x] = {least}
                        else:
                            for x in range(-start % sx, inside, sx):
                                q = (start + x) // sx
                                if q < cols:
                                    base, product = boxes[b, 0, y, q], products[x]
                                    value = {value}
                                    here[y, q] = {least}
"""

#: Copies V columns of a channel of two tiles, computes expression {index} of them, transforms them.
_GATHER = """
                for part in range(2):
                    image_row, column = divmod(2 * job + part, grid[1])
                    top, edge = image_row % grid[0] * valid[0], column * valid[1] + left
                    b, bottom = image_row // grid[0], min(length, height - top)
                    inside = min({lanes}, width - edge)
                    if b == batch or inside <= 0:
                        block[:, part] = 0
                        continue
                    start = b * to_image + c * to_channel + top * to_row + edge
                    for y in range(bottom):
                        line, pixels = block[y, part], image[start : start + inside]
                        start += to_row
                        if inside == {lanes}:
                            for x in range({lanes}):
                                line[x] = term{index}(np.{total}(0), np.{total}(pixels[x]) - middle)
                        else:
                            line[:] = 0
                            for x in range(inside):
                                line[x] = term{index}(np.{total}(0), np.{total}(pixels[x]) - middle)
                    block[bottom:, part] = 0
                forward(place, length, down, down_roots.ctypes.data)
                target = planes + ({index} * centre.size + c) * tile + left * {pair}
                turn(place, {pair} * {lanes}, target, strip, strips)
"""


def spectra(total: str, size: int) -> str:
    """Write the kernel that transforms templates, in floats of `size` bytes named `total`."""
    return _filled(_SPECTRA, total, size)


def overlap_save(total: str, size: int, texts: Sequence[str], *, rounded: bool, boxed: bool) -> str:
    """Write the kernel that slides templates, given the expressions of the cross terms."""
    product = "np.rint(product)" if rounded else "product"
    filled = {
        "gathers": "".join(_GATHER.replace("{index}", str(i)) for i in range(len(texts))),
        "texts": str(len(texts)),
        "value": f"base + {product} + constant" if boxed else product,
        "least": "0 if value < 0 else value" if boxed else "value",
    }
    source = _OVERLAP_SAVE
    for key, text in filled.items():
        source = source.replace("{" + key + "}", text)
    return _filled(source, total, size)


def _filled(kernel: str, total: str, size: int) -> str:
    loops = ""
    for name, parts in (("forward", _FORWARD), ("backward", _BACKWARD)):
        calls = "\n".join(
            f"                {'el' * (radix != RADICES[0])}if radix == {radix}:\n"
            f"                    {name}{radix}(place, step, root)"
            for radix in RADICES
        )
        loop = _LOOPS.replace("{name}", name).replace("{calls}", calls)
        for key, part in parts.items():
            loop = loop.replace("{" + key + "}", part)
        loops += loop
    return (loops + _TURN + kernel).format(
        total=total, size=size, lanes=REGISTER // size, register=REGISTER, pair=2 * REGISTER
    )
