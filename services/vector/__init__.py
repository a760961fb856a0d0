"""Stores and searches vectors; documents in, passages out.

Small products are quicker with one BLAS thread than with two (0.15 ms against 3 ms, measured), and
the choice must be made before numpy is loaded, hence here.
"""

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
