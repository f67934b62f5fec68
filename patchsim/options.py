"""Settings that hold for the whole process: ``patchsim.options.max_memory = 2**30``."""

#: Bytes that a call may use beyond its input and output.
max_memory: int = 256 * 2**20
