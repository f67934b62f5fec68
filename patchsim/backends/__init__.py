"""The backends; a new one is one file and its line in this table."""

from patchsim.backends.base import Backend, Work
from patchsim.backends.conv2d import CONV2D
from patchsim.backends.fft import FFT
from patchsim.backends.fused import FUSED
from patchsim.backends.levels import LEVELS
from patchsim.backends.loop import LOOP
from patchsim.backends.lowrank import LOWRANK
from patchsim.backends.shift import SHIFT
from patchsim.backends.unfold import UNFOLD
from patchsim.backends.values import VALUES

__all__ = ["BACKENDS", "Backend", "Work"]

#: Every backend by name.
BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (LOOP, UNFOLD, SHIFT, FUSED, CONV2D, FFT, VALUES, LEVELS, LOWRANK)
}
