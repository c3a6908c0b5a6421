"""What ``make bench`` runs: flexlib beside what others use, in the same run, on the same data."""

import os

# One thread on either side. Read by the numerical libraries when they are first imported.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
