"""cellcount: counts a hematology laboratory can defend, from folders of smear images."""

import os

__version__ = "0.1.0"

__all__ = ["__version__"]

# OpenMP's threads spin at the end of every layer by default. Where two jobs share the processors,
# each spins while the other needs the core, and both become about fifteen times slower. Waiting
# passively costs a job that runs alone about a tenth. The library reads this once, when torch loads
# it, so it is set here, before anything of cellcount imports torch; worker processes inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
