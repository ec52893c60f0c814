"""Lets pip inside a root folder reach packages as pip outside does; for images that stay here.

``python index_of_host.py ROOT`` copies wheel folders and certificates, and writes its pip.conf.
"""

import shlex
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

KEPT = ("index-url", "trusted-host")
WHEELS = "/opt/base-wheels"


def host_settings() -> dict[str, str]:
    """What ``pip config list`` says, by the last part of the key."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    pairs = (line.partition("=") for line in listed.stdout.splitlines())
    return {key.rpartition(".")[2]: " ".join(shlex.split(value)) for key, _, value in pairs}


def main() -> None:
    """Write it."""
    root, settings = Path(sys.argv[1]), host_settings()
    lines = [f"{key} = {settings[key]}" for key in KEPT if key in settings]
    if any("@" in line for line in lines):
        sys.exit("the package index needs a password, which must not be in an image")
    for folder in map(Path, settings.get("find-links", "").split()):
        if folder.is_dir():
            shutil.copytree(folder, root / WHEELS.lstrip("/"), dirs_exist_ok=True)
            lines.append(f"find-links = {WHEELS}")
    certificates = settings.get("cert") or ssl.get_default_verify_paths().cafile
    if certificates and Path(certificates).is_file():
        place = "/etc/ssl/certs/ca-certificates.crt"
        shutil.copyfile(certificates, root / place.lstrip("/"))
        lines.append(f"cert = {place}")
    (root / "etc" / "pip.conf").write_text("\n".join(["[global]", *dict.fromkeys(lines), ""]))


if __name__ == "__main__":
    main()
