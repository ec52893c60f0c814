"""Which fdbench this is: its version, and the commit or the digest of its own code."""

import hashlib
import json
import os
import subprocess
from functools import cache
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Final

from runners.protocol.wire import sha256_file

SHORT: Final = 7
"""Characters of a commit or a digest."""
_ROOT = Path(__file__).resolve().parents[2]
_CODE = ("harness", "reports", "runners", "suites", "templates", "upstream_envs")
"""What decides a verdict or a figure."""


@cache
def own_version() -> str:
    """Version and origin: ``0.1.0 (commit abc1234 + changes)``.

    The commit is that of the clone it runs from, or of the one that pip fetched. Without either, as
    in a wheel from an index, the digest of the code stands for it.
    """
    installed = distribution("fdbench")
    origin = _of_clone(_ROOT) or _of_fetched(installed) or f"code {code_digest(_ROOT)[:SHORT]}"
    return f"{installed.version} ({origin})"


def code_digest(root: Path) -> str:
    """Digest of every file that decides a verdict or a figure, by its path."""
    files = (path for folder in _CODE for path in (root / folder).rglob("*") if path.is_file())
    content = {
        str(path.relative_to(root)): sha256_file(path)
        for path in files
        if "__pycache__" not in path.parts
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _of_clone(root: Path) -> str:
    """Commit of a clone, and whether its code differs; empty where there is none, or no git."""
    if not (root / ".git").exists():  # git would look further up, where another clone may be
        return ""
    head = _git(root, "rev-parse", "HEAD").strip()
    changes = _git(root, "status", "--porcelain", "--", *_CODE)
    return f"commit {head[:SHORT]}{' + changes' if changes else ''}" if head else ""


def _of_fetched(installed: Distribution) -> str:
    """Commit that pip fetched, as PEP 610 records it; empty if this is not what pip installed."""
    is_this = Path(str(installed.locate_file("harness"))).resolve() == _ROOT / "harness"
    recorded = installed.read_text("direct_url.json") if is_this else None
    commit = json.loads(recorded or "{}").get("vcs_info", {}).get("commit_id", "")
    return f"commit {commit[:SHORT]}" if commit else ""


def _git(root: Path, *words: str) -> str:
    variables = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(  # noqa: S603 -- words of its own
            ["git", "--no-optional-locks", "-C", str(root), *words],  # noqa: S607 -- wherever it is
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""
