"""Lists what an environment's folder holds, as JSON; runs inside an image, standard library only.

``python contents.py FOLDER`` prints it. ``python contents.py FOLDER RECORDED`` prints what is there
now, with the paths that are not as the recorded list says.
"""

import hashlib
import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

_MOST = 5
"""Paths that a comparison names."""


def files_of(folder: Path) -> dict[str, str]:
    """Every file and link below a folder, with the digest of its bytes or its target."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
            found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return dict(sorted(found.items()))


def packages_of() -> dict[str, str]:
    """Installed distributions and their versions."""
    return {one.metadata["Name"]: one.version for one in metadata.distributions()}


def main() -> None:
    """Print the list, or the comparison."""
    files = files_of(Path(sys.argv[1]))
    listed: dict[str, object] = {
        "python": platform.python_version(),
        "packages": packages_of(),
        "files": files,
    }
    if len(sys.argv) > 2:
        recorded = json.loads(Path(sys.argv[2]).read_text("utf-8"))["files"]
        changed = sorted(
            path for path in {*files, *recorded} if files.get(path) != recorded.get(path)
        )
        del listed["files"]
        listed |= {"num_files": len(files), "changed": changed[:_MOST]}
    sys.stdout.write(json.dumps(listed))


if __name__ == "__main__":
    main()
