"""How the loops of this room are compiled: kept on disk, and dividing as numpy does, so that they are vectorised."""

from vlret.jit import njit

compiled = njit(cache=True, error_model="numpy", nogil=True)
