"""Write the fields of ``sample_data`` anew: pictures and ``truth.json``.

python -m tools.render_samples sample_data
"""

from __future__ import annotations

import sys
from pathlib import Path

from cellcount.errors import UsageError
from cellcount.rendering.samples import write_samples


def main() -> None:
    """Entry point of ``python -m tools.render_samples FOLDER``."""
    if len(sys.argv) != 2:
        raise UsageError("name the folder to write to: python -m tools.render_samples FOLDER")
    write_samples(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
