"""Names of suites, devices, recipes and environments, read without checking what they stand for."""

import tomllib
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
SUITES_DIR = _ROOT / "suites"
_TABLES = {"recipes", "devices", "published"}


def suite_names() -> list[str]:
    """Names of the suites that come with fdbench."""
    return sorted({file.stem for file in SUITES_DIR.glob("*.toml")} - _TABLES)


def device_names() -> list[str]:
    """Keys of the devices."""
    return list(_tables("devices"))


def recipe_names() -> list[str]:
    """Slugs of the recipes."""
    return list(_tables("recipes").get("recipes", {}))


def environment_names() -> list[str]:
    """Names of the declared environments."""
    return sorted(path.parent.name for path in (_ROOT / "upstream_envs").glob("*/env.toml"))


def cell_names(suite: str, device: str) -> list[str]:
    """Ids of a suite's cells on a device, whether or not they can run there."""
    path = Path(suite) if suite.endswith(".toml") else SUITES_DIR / f"{suite.lower()}.toml"
    cells = tomllib.loads(path.read_text("utf-8")).get("cells", [])
    return [
        join_id(
            cell["recipe"],
            device.lower(),
            cell["baseline"],
            cell.get("variant", ""),
            cell.get("scene", ""),
        )
        for cell in cells
    ]


def join_id(*parts: str) -> str:
    """Name of a cell: recipe/device/baseline, and its variant or scene."""
    return "/".join(filter(None, parts))


def _tables(name: str) -> dict[str, dict[str, object]]:
    return tomllib.loads((SUITES_DIR / f"{name}.toml").read_text("utf-8"))
