"""Source of the kernels, to be filled in and compiled by `patchsim.kernels.jit`.

``term(sum, p, ...)`` stands for adding the expression of a metric. Loops run over slices, whose
indices Numba knows not to be negative: only then does it vectorise them.
"""

#: Sums d(p, k) of every window (or, of gradients, for every pixel): see
#: `patchsim.kernels.jit.kernel`.
#:
#: Processors take loads for those of what is being stored if addresses differ by whole pages of
#: 4096 bytes, and let them wait: so sums lie most of a page behind the pixels that are read.
SLIDE = """
@njit
def apart(space, size, pixels, first):
    here = np.int64(space.ctypes.data)
    away = (np.int64(pixels.ctypes.data) + first * pixels.itemsize + 3072 - here) % 4096
    begin = (away + -(here + away) % 64) // space.itemsize
    return space[begin : begin + size]

def kernel(shifted, {fixed_argument}offsets, values, {weights_argument}sums, place, pitch, rows, \
chunk, first, last):
    batch, origin, start = place
    templates, taps = values.shape
    width = sums.shape[3]
    part = apart(np.empty(chunk + 4160, np.{part}), chunk, shifted, origin + offsets[0])
    total = np.empty(chunk, np.{running})
    for y in range(first, last, rows):
        length = (min(rows, last - y) - 1) * pitch + width
        for left in range(0, length, chunk):
            size = min(chunk, length - left)
            base = origin + y * pitch + left
            {fixed_run}
            for n in range(templates):
                for x in range(size):
                    total[x] = 0
                for group in range(0, taps, {group}):
                    stop = min(group + {group}, taps)
                    for x in range(size):
                        part[x] = 0
                    t = group
                    while t + {unroll} <= stop:
{many_runs}
                        for x in range(size):
                            part[x] = {many_terms}
                        t += {unroll}
                    while t < stop:
{one_run}
                        for x in range(size):
                            part[x] = {one_term}
                        t += 1
                    for x in range(size):
                        total[x] += part[x]
                for row in range(left // pitch, (left + size - 1) // pitch + 1):
                    begin = max(left, row * pitch)
                    end = min(left + size, row * pitch + width)
                    own = total[begin - left : end - left]
                    line = sums[batch, n, y + row, begin - row * pitch : end - row * pitch]
                    for q in range(line.size):
                        line[q] = own[q]
"""

#: Sums of products over all windows, for every tap: see `patchsim.kernels.jit.kernel`.
REDUCE = """
def kernel(shifted, fixed, offsets, values, {weights_argument}sums, place, pitch, rows, \
chunk, first, last):
    batch, origin, start = place
    height, width = fixed.shape[2:]
    for n in range(values.shape[0]):
        for t in range(first, last):
            k = values[n, t]
            {weight}
            total = sums[n, t]
            for y in range(height):
                base = origin + offsets[t] + y * pitch
                run = shifted[base : base + width]
                slopes = fixed[batch, n, y]
                part = np.{total}(0)
                for x in range(width):
                    part = term(part, run[x], k, {weight_name}slopes[x])
                total += part
            sums[n, t] = total
"""

#: See `patchsim.kernels.jit.box`.
BOX = """
@njit
def add(line, run, length, count):
    one, two = run[length:], run[2 * length :]
    if count == 1:
        for x in range(line.size):
            line[x] += run[x]
    elif count == 2:
        for x in range(line.size):
            line[x] += run[x] + one[x]
    elif count == 3:
        for x in range(line.size):
            line[x] += run[x] + one[x] + two[x]

@njit
def quadruple(run, longer, length, size):
    one, two, three = run[length:], run[2 * length :], run[3 * length :]
    for x in range(size):
        longer[x] = (run[x] + one[x]) + (two[x] + three[x])

def kernel(image, centre, sums, steps, shape, h, w, down, across, first, last):
    (to_image, to_channel, to_row), (height, width) = steps, shape
    batch, channels = sums.shape[0], centre.size
    suffix = np.empty((h + 1, width), np.{total})
    prefix = np.empty(width, np.{total})
    run, longer = np.empty_like(prefix), np.empty_like(prefix)
    every = np.empty(width - w + 1, np.{total})
    for b in range(batch):
        y = first
        while y < last:
            top, i = y * down, 0
            suffix[h] = 0
            prefix[:] = 0
            for j in range(h - 1, -1, -1):
                own, before = suffix[j], suffix[j + 1]
                for c in range(channels):
                    start, middle = b * to_image + c * to_channel + (top + j) * to_row, centre[c]
                    pixels = image[start : start + width]
                    for x in range(width):
                        own[x] = term(before[x], np.{total}(pixels[x]) - middle)
                    before = own
            while i < h and y < last:
                own, here = suffix[i], sums[b, 0, y]
                for x in range(width):
                    run[x] = own[x] + prefix[x]
                # The digits of w in base 4 tell how many runs of 1, 4, 16, … pixels it takes.
                line = here if across == 1 else every
                line[:] = 0
                length, begin, size, left = 1, 0, width, w
                while True:
                    add(line, run[begin:], length, left % 4)
                    begin += left % 4 * length
                    left //= 4
                    if left == 0:
                        break
                    size -= 3 * length
                    quadruple(run, longer, length, size)
                    run, longer = longer, run
                    length *= 4
                if across > 1:
                    for x in range(here.size):
                        here[x] = line[x * across]
                for row in range(top + h + i, min(top + h + min(i + down, h), height)):
                    for c in range(channels):
                        start, middle = b * to_image + c * to_channel + row * to_row, centre[c]
                        pixels = image[start : start + width]
                        for x in range(width):
                            prefix[x] = term(prefix[x], np.{total}(pixels[x]) - middle)
                y += 1
                i += down
"""

#: The same for integers, sums of which can be subtracted again.
RUNNING_BOX = """
def kernel(image, centre, sums, steps, shape, h, w, down, across, first, last):
    (to_image, to_channel, to_row), width = steps, shape[1]
    batch, channels = sums.shape[0], centre.size
    columns, integral = np.empty(width, np.{total}), np.zeros(width + 1, np.int64)
    for b in range(batch):
        for y in range(first, last):
            # The h rows of the windows, or the rows that they gain and lose.
            gained = h if y == first else min(h, down)
            if gained == h:
                columns[:] = 0
            for c in range(channels):
                middle, top = centre[c], b * to_image + c * to_channel + y * down * to_row
                for row in range(h - gained, h):
                    pixels = image[top + row * to_row : top + row * to_row + width]
                    for x in range(width):
                        columns[x] = term(columns[x], np.{total}(pixels[x]) - middle)
                if gained < h:
                    for row in range(-gained, 0):
                        pixels = image[top + row * to_row : top + row * to_row + width]
                        for x in range(width):
                            columns[x] -= term(np.{total}(0), np.{total}(pixels[x]) - middle)
            total = 0
            for x in range(width):
                total += np.int64(columns[x])
                integral[x + 1] = total
            here, ends = sums[b, 0, y], integral[w:]
            if across == 1:
                for x in range(here.size):
                    here[x] = ends[x] - integral[x]
            else:
                for x in range(here.size):
                    here[x] = ends[x * across] - integral[x * across]
"""

#: See `patchsim.kernels.jit.blocks`.
BLOCKS = """
@njit
def add_four(line, rows, first):
    a, b, c, d = rows[first], rows[first + 1], rows[first + 2], rows[first + 3]
    for x in range(line.size):
        line[x] += (a[x] + b[x]) + (c[x] + d[x])

@njit
def joined(image, start, to_channel, channels, line, other, side, most):
    # By doublings, to and fro, so that the last sums are those of `line`: a loop that wrote where
    # it reads wouldn't be vectorised, nor one that copied a part of an array.
    here, there, length = line, other, side
    while length > 1:
        here, there = there, here
        length //= 2
    here[:] = 0
    for c in range(channels):
        pixels = image[start + c * to_channel : start + c * to_channel + line.size]
        for x in range(line.size):
            value = np.{total}(pixels[x])
            here[x] += value
            size = abs(value)
            most[x] = size if size > most[x] else most[x]
    while length < side:
        after = here[length:]
        for x in range(after.size):
            there[x] = here[x] + after[x]
        here, there = there, here
        length *= 2

@njit
def compare(line, rows, taps, side, across):
    t = 0
    while t + 4 <= taps.size and across == 1:
        a, b, c = rows[side * t :], rows[side * (t + 1) :], rows[side * (t + 2) :]
        d = rows[side * (t + 3) :]
        for x in range(line.size):
            line[x] = term(
                term(term(term(line[x], a[x], taps[t]), b[x], taps[t + 1]), c[x], taps[t + 2]),
                d[x], taps[t + 3],
            )
        t += 4
    while t < taps.size:
        a = rows[side * t :]
        if across == 1:  # with steps it wouldn't be vectorised
            for x in range(line.size):
                line[x] = term(line[x], a[x], taps[t])
        else:
            for x in range(line.size):
                line[x] = term(line[x], a[x * across], taps[t])
        t += 1

{more}
def kernel(image, steps, shape, blocks, side, stride, bounds, peaks{arguments}, first, last):
    (to_channel, to_row), (channels, width) = steps, shape
    down, across = stride
    templates, high, wide = blocks.shape
    reach = (high - 1) * side + 1
    strips, sums = np.empty((side, width), np.{total}), np.zeros((reach, width), np.{total})
    other, most = np.empty(width, np.{total}), np.zeros(width, np.{total})
    for y in range(first * down, (last - 1) * down + reach + side - 1):
        joined(image, y * to_row, to_channel, channels, strips[y % side], other, side, most)
        top = y - side + 1
        if top < first * down:
            continue
        line, t = sums[top % reach], 0
        line[:] = 0
        while t + 4 <= side:
            add_four(line, strips, t)
            t += 4
        while t < side:
            for x in range(width):
                line[x] += strips[t, x]
            t += 1
        top -= reach - 1
        if top < first * down or top % down:
            continue
        {before}
        for n in range(templates):
            line = {line}
            line[:] = 0
            for i in range(high):
                compare(line, sums[(top + i * side) % reach], blocks[n, i], side, across)
            {after}
    peaks[first] = most.max()
"""

#: See `patchsim.kernels.jit.spread`.
SPREAD = """
def kernel(image, spread, steps, cols, first, last):
    to_image, to_channel, to_row = steps
    batch, channels, rows, pitch = spread.shape
    for job in range(first, last):
        b, c, y = job // (channels * rows), job // rows % channels, job % rows
        phase, run = c % {across}, spread[b, c, y]
        start = b * to_image + c // {across} * to_channel + y * to_row + phase
        source, target, x = image[start:].ctypes.data, run.ctypes.data, 0
        while x < pitch // {size} and start + {step} * x + {reach} <= image.size:
            overlap(target + {size} * x * image.itemsize, source + {step} * x * image.itemsize)
            x += {starts}
        inside = (cols - phase + {across} - 1) // {across} - {size}
        for x in range(min(x, max(0, {across} * inside // {step} + 1)), pitch // {size}):
            for i in range({size}):
                here = {step} * x + {across} * i
                run[{size} * x + i] = image[start + here] if phase + here < cols else 0
"""

#: See `patchsim.kernels.jit.quads`.
QUADS = """
def kernel(spread, offsets, words, factor, sums, to_image, to_row, chunk, first, last):
    batch, templates, rows, cols = sums.shape
    groups, blocks = offsets.size, (rows + {rows} - 1) // {rows}
    longest = min(cols, chunk)
    part = np.empty(({rows}, longest + {windows}), np.{part})
    total = np.empty(({rows}, longest), np.int32)
    for job in range(first, last):
        b, y = job // blocks, job % blocks * {rows}
        for left in range(0, cols, chunk):
            count = min(chunk, cols - left)
            registers = (count + {windows} - 1) // {windows}
            start = spread.ctypes.data + b * to_image + y * to_row + left * {spread}
            for n in range(templates):
                total[:] = 0
                for group in range(0, groups, {group}):
                    stop = min(group + {group}, groups)
                    part[:] = 0
                    t = group
                    while t < stop:
                        places = part.ctypes.data, start, offsets.ctypes.data + 8 * t
                        taps = words.ctypes.data + 4 * {words} * ({rows} * n * groups + t)
                        steps = part.strides[0], 4 * {words} * groups
                        if t + {unroll} <= stop:
                            many(*places, taps, registers, *steps)
                            t += {unroll}
                        else:
                            one(*places, taps, registers, *steps)
                            t += 1
                    for i in range({rows}):
                        sum, more = total[i], part[i]
                        for x in range(count):
                            sum[x] += more[x]
                for i in range(min({rows}, rows - y)):
                    result, sum = sums[b, n, y + i, left : left + count], total[i]
                    for x in range(count):
                        result[x] += factor * sum[x]
"""
