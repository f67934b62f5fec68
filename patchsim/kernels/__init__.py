"""Kernels: code generated from a metric's definition and compiled by Numba when first needed.

`expression` reads the definition, `emit` turns it into LLVM code, and `jit` fills in a source and
compiles it. Sources are in `sources`, `phases`, `spectra`, `passes`, `windows` and `scores`; what
they call is written as LLVM code in `intrinsics`, `sweeps` (by `instructions` of the processor) and
`butterflies`.
"""
