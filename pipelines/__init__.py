"""One thin script a DVC stage: read the stage's section of `params.yaml`, call `eguard.mlops`, end by its verdict.

Thread counts are fixed before NumPy loads, because sums in another order give other last digits. Threads that wait give
their core away, so that a busy machine slows a stage down by its share and not by a multiple.
"""

import os

_ENVIRONMENT = {
    "OMP_NUM_THREADS": "2",
    "OMP_WAIT_POLICY": "PASSIVE",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
os.environ.update(_ENVIRONMENT)
os.environ.setdefault("MPLBACKEND", "agg")
