"""Stores and searches vectors; documents in, passages out.

Small products are quicker with one BLAS thread than with two (0.15 ms against 3 ms, measured), and
the choice must be made before numpy is loaded, hence here. So must two more:

- onnxruntime writes a device id and a database of events under the home folder unless told not to.
- usearch carries parts of libstdc++ of its own; loaded before grpc, it makes onnxruntime crash.
"""

import os

import grpc as _grpc  # noqa: F401  (loaded first, see above)

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
