"""Runs every slug's own command at tiny size, in one process: ``run_every_slug.py FOLDER``.

The log of a slug goes to ``FOLDER/<slug>.log``, its video and stats beside it.
"""

import sys
import time
from pathlib import Path

from loguru import logger

import runners


def main(folder: Path) -> None:
    """Run each slug through its registered configuration, two AR steps at most."""
    for slug in runners.RUNNERS:
        config = runners.load(slug, size="tiny", output_dir=folder, pixel_height=32, pixel_width=48)
        if hasattr(config, "total_blocks"):
            config.total_blocks = 2
        begun = time.perf_counter()
        sink = logger.add(folder / f"{slug}.log")
        config.setup().run()
        logger.remove(sink)
        print(f"{slug}: {time.perf_counter() - begun:.1f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
