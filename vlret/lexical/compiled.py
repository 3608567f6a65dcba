"""How the loops of this room are compiled: kept on disk, and dividing as numpy does, so that they are vectorised."""

import numba

compiled = numba.njit(cache=True, error_model="numpy", nogil=True)
