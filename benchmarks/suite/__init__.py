"""The asv suite. One file a family of work: its cases with the goals, how each framework does it, and what asv times.

`report.py` measures the same cases in turns, all frameworks in one run, which is what the ratios in the README are.
"""

import os

# They change which BLAS kernels run; OpenBLAS reads them when it is loaded, which is later.
for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)
