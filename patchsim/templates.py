"""Source of the kernels, to be filled in and compiled by `patchsim.jit`.

``term(sum, p, ...)`` stands for adding the expression of a metric. Loops run over slices, whose
indices Numba knows not to be negative: only then does it vectorise them.
"""

#: Sums d(p, k) of every window (or, of gradients, for every pixel): see `patchsim.jit.kernel`.
SLIDE = """
def kernel(shifted, {fixed_argument}offsets, values, {weights_argument}sums, place, pitch, rows, \
chunk, first, last):
    batch, origin, start = place
    templates, taps = values.shape
    width = sums.shape[3]
    part = np.empty(chunk, np.{part})
    total = np.empty(chunk, np.{total})
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
                    for q in range(begin, end):
                        sums[batch, n, y + row, q - row * pitch] = total[q - left]
"""

#: Sums of products over all windows, for every tap: see `patchsim.jit.kernel`.
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

#: See `patchsim.jit.phases`.
PHASES = """
def kernel(image, planes, rows, cols, first, last):
    batch, channels, down, across, size = planes.shape
    height, width = image.shape[2:]
    for job in range(first, last):
        b, c, y = job // (channels * rows), job // rows % channels, job % rows
        for i in range(down):
            source = y * down + i
            for j in range(across):
                inside = min(cols, (width - j + across - 1) // across) if source < height else 0
                # Unsigned, so that no index counts from the end.
                start, step = np.uint64(y * cols), np.uint64(across)
                for x in range(np.uint64(inside)):
                    planes[b, c, i, j, start + x] = image[b, c, source, np.uint64(j) + x * step]
                for x in range(np.uint64(inside), np.uint64(cols)):
                    planes[b, c, i, j, start + x] = 0
"""


#: See `patchsim.jit.box`.
BOX = """
def kernel(image, centre, sums, steps, shape, h, w, down, across, first, last):
    (to_image, to_channel, to_row), (height, width) = steps, shape
    batch, channels = sums.shape[0], centre.size
    suffix = np.empty((h + 1, width), np.{total})
    prefix = np.empty(width, np.{total})
    run, longer, line = np.empty_like(prefix), np.empty_like(prefix), np.empty_like(prefix)
    for b in range(batch):
        y = first
        while y < last:
            top, i = y * down, 0
            suffix[h] = 0
            prefix[:] = 0
            for j in range(h - 1, -1, -1):
                own, before = suffix[j], suffix[j + 1]
                for x in range(width):
                    own[x] = before[x]
                for c in range(channels):
                    start, middle = b * to_image + c * to_channel + (top + j) * to_row, centre[c]
                    pixels = image[start : start + width]
                    for x in range(width):
                        own[x] = term(own[x], np.{total}(pixels[x]) - middle)
            while i < h and y < last:
                own = suffix[i]
                for x in range(width):
                    run[x] = own[x] + prefix[x]
                length, begin, size = 1, 0, width
                while True:
                    if w & length:
                        part = run[begin : begin + width - w + 1]
                        if begin == 0:
                            for x in range(part.size):
                                line[x] = part[x]
                        else:
                            for x in range(part.size):
                                line[x] += part[x]
                        begin += length
                    if begin == w:
                        break
                    size -= length
                    ahead = run[length : length + size]
                    for x in range(size):
                        longer[x] = run[x] + ahead[x]
                    run, longer = longer, run
                    length *= 2
                here = sums[b, 0, y]
                if across == 1:
                    for x in range(here.size):
                        here[x] = line[x]
                else:
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

#: See `patchsim.jit.gather`.
GATHER = """
def kernel(image, centre, blocks, steps, shape, b, top, left, across, plane):
    (to_image, to_channel, to_row), (height, width) = steps, shape
    tiles, _, length, breadth = blocks.shape
    channels = centre.size
    for tile in range(tiles):
        begin = left + tile * across
        size = min(breadth, width - begin)
        for c in range(channels):
            middle = centre[c]
            for y in range(length):
                block = blocks[tile, plane + c, y]
                inside = 0
                if top + y < height:
                    start = b * to_image + c * to_channel + (top + y) * to_row + begin
                    pixels = image[start : start + size]
                    inside = size
                    for x in range(inside):
                        block[x] = term(np.{total}(0), np.{total}(pixels[x]) - middle)
                for x in range(inside, breadth):
                    block[x] = 0
"""

#: See `patchsim.jit.combine`.
COMBINE = """
def kernel(products, boxes, constant, sums, b, n, top, left, valid, stride):
    (down, across), (sy, sx) = valid, stride
    tiles = products.shape[0]
    rows, cols = sums.shape[2:]
    for y in range((top + sy - 1) // sy, min(rows, (top + down - 1) // sy + 1)):
        for tile in range(tiles):
            begin = left + tile * across
            first = (begin + sx - 1) // sx
            size = min(cols, (begin + across - 1) // sx + 1) - first
            product = products[tile, y * sy - top, first * sx - begin :]
            box = boxes[b, 0, y, first : first + size]
            result = sums[b, n, y, first : first + size]
            if sx == 1:
                for x in range(size):
                    value = box[x] + product[x] + constant
                    result[x] = 0 if value < 0 else value
            else:
                for x in range(size):
                    value = box[x] + product[x * sx] + constant
                    result[x] = 0 if value < 0 else value
"""
