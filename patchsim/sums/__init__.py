"""Window sums: what backends have in common, and what runs kernels on images.

`pointwise` is shared by backends that evaluate d(p, k), `algebra` and `correlation` by those that
expand it, as a `recipe` of `factors` of templates and `box` sums of images. On the CPU `slide` runs
kernels of any expression, `integers` those of the processor's instructions (by `quads` or
`lanes`), `overlap_save` those of tiles' transforms.
"""
