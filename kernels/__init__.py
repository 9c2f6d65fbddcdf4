"""Compute kernels: serial functions over a range, compiled by Numba, called by raw pointer.

Nothing here knows what a Tensor is. See ``contract.py`` for the one ABI that they share.
"""

if __name__ == "kernels":
    raise ImportError("this folder is installed as `minigrad.kernels`; write `import minigrad.kernels` instead")
