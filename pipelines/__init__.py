"""One thin script a DVC stage: read the stage's section of `params.yaml`, call `eguard.mlops`, end by its verdict.

Thread counts are fixed before NumPy loads, because sums in another order give other last digits.
"""

import os

for _name, _threads in (("OMP_NUM_THREADS", "2"), ("OPENBLAS_NUM_THREADS", "1"), ("MKL_NUM_THREADS", "1")):
    os.environ[_name] = _threads
os.environ.setdefault("MPLBACKEND", "agg")
