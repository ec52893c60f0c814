"""Every test has one kind: the fixtures it needs decide, then its own marker, then its file's."""

import pytest

KINDS = {
    "unit": "in this process alone",
    "contract": "programs that stand for sides and users, each in a process of its own",
    "real": "real environments with upstream code in them",
    "containers": "a container engine",
    "browser": "Chromium",
}
SLOW = "takes a second of computing or more, as its file may do in sum, or must be alone"
NEEDED_BY = {
    "base_image": "containers",
    "chromium": "browser",
    "flashdreams_env": "real",
    "smoke_run": "real",
    "official_run": "real",
    "environment": "contract",
    "fake_run": "contract",
    "place": "contract",
}
"""Fixture to the kind of every test that uses it; of several the first holds."""


def pytest_configure(config):
    """Make the kinds known."""
    for kind, what in KINDS.items():
        config.addinivalue_line("markers", f"{kind}: {what}")
    config.addinivalue_line("markers", f"slow: {SLOW}")


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items):
    """Leave each test with the marker of its kind alone, so that -m selects it by that one."""
    kinds = [(item, kind_of(item)) for item in items]
    for item in items:
        for node in item.iter_parents():
            node.own_markers[:] = [mark for mark in node.own_markers if mark.name not in KINDS]
    for item, kind in kinds:
        item.add_marker(kind)


def kind_of(item) -> str:
    """The kind of a test; a test of none or of several stops the collection."""
    if getattr(item, "callspec", None) and item.callspec.params.get("sandbox") == "docker":
        return "containers"
    for fixture, kind in NEEDED_BY.items():
        if fixture in item.fixturenames:
            return kind
    for node in item.iter_parents():  # the nearest marker first
        found = {mark.name for mark in node.own_markers} & KINDS.keys()
        if len(found) == 1:
            return found.pop()
        if found:
            break
    raise pytest.UsageError(
        f"{item.nodeid}: mark this test, or its file, with one of {', '.join(KINDS)}"
    )
