"""The compiler of the lexical loops: cached on disk, with numpy's division semantics, which allow vectorisation."""

from vlret.jit import njit

compiled = njit(cache=True, error_model="numpy", nogil=True)
