"""Kinds of tests and the sum of what was skipped: pytest in this process, on files made here."""

import pytest

pytestmark = pytest.mark.unit

pytest_plugins = ["pytester"]

HEAD = "import pytest\npytestmark = pytest.mark.unit\n"
TESTS = (
    HEAD
    + """
@pytest.fixture
def base_image(): pass
@pytest.fixture(params=["process", "docker"])
def sandbox(request): pass
def test_of_its_file(): pass
@pytest.mark.contract
def test_of_its_own(): pass
@pytest.mark.contract
def test_of_its_fixture(base_image): pass
def test_of_its_sandbox(sandbox): pass
"""
)


@pytest.fixture
def outcome(pytester):
    """Runs pytest on a file of tests; gives the lines it printed."""

    def ran(text, *words):
        pytester.makepyfile(text)
        plugins = ("-p", "tests.kinds", "-p", "tests.skips", "-p", "no:cacheprovider")
        return pytester.runpytest_inprocess("--strict-markers", "-q", *plugins, *words)

    return ran


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("unit", ["test_of_its_file", "test_of_its_sandbox[process]"]),
        ("contract", ["test_of_its_own"]),
        ("containers", ["test_of_its_fixture", "test_of_its_sandbox[docker]"]),
        ("real or browser", []),
    ],
)
def test_each_test_is_of_one_kind(outcome, kind, names):
    """The fixtures decide, then the test's own marker, then the file's; -m goes by that alone."""
    found = outcome(TESTS, "--collect-only", "-m", kind).outlines

    assert [line.partition("::")[2] for line in found if "::" in line] == names


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("def test_a(): pass", id="none"),
        pytest.param(
            HEAD + "pytestmark = [pytestmark, pytest.mark.real]\ndef test_a(): pass", id="two"
        ),
    ],
)
def test_kind_must_be_said(outcome, text):
    """A test of no kind, or of two at once, stops the collection."""
    done = outcome(text)

    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*::test_a: mark this test, or its file, with one of unit, *"])


def test_skips_are_summed_up(outcome):
    """One line a reason, the most frequent first; what to do about it stands behind."""
    skips = ["no cake: bake one", "odd", "no cake: bake one"]
    tests = "".join(f"def test_{n}(): pytest.skip({why!r})\n" for n, why in enumerate(skips))
    lines = outcome(HEAD + tests).outlines
    first = next(n for n, line in enumerate(lines) if "skipped tests by reason" in line)

    assert lines[first + 1 : first + 3] == ["no cake: 2 (bake one)", "odd: 1"]


def test_nothing_skipped_says_nothing(outcome):
    """No heading over no lines."""
    assert "by reason" not in outcome(HEAD + "def test_a(): pass\n").stdout.str()
