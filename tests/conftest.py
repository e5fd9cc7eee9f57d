"""What every test shares.

Property tests have no deadlines: machines are shared, and kernels compile. Libraries get one thread each, as
in worker processes: tests share the machine with each other, and sums never depend on it.
"""

import os

from hypothesis import settings

os.environ["OMP_NUM_THREADS"] = "1"  # before torch and NumPy are imported

settings.register_profile("prill", deadline=None, print_blob=True)
settings.load_profile("prill")
