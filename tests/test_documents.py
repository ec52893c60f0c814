"""Documents that a reader can trust: links lead somewhere, tables follow from the runs."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from harness.environments.declared import PROJECT_DIR
from reports.documents import render_documents
from tests.fakes.command import fdbench

pytestmark = pytest.mark.contract

README = PROJECT_DIR / "README.md"
WRITTEN = [
    README,
    PROJECT_DIR / "CHANGELOG.md",
    *sorted((PROJECT_DIR / "docs").glob("*.md")),
    PROJECT_DIR / "docs" / "results" / "README.md",
]
"""Documents that people write."""
REPORTS = sorted((PROJECT_DIR / "docs" / "results").glob("*/report/report.md"))
LONGEST_SENTENCE = 35
"""Words; a reader of more has to begin again."""
LISTS = r"(Columns|Fields): .*"
"""What is no sentence in FORMAT: names to look up."""
NAMES = {path: str(path.relative_to(PROJECT_DIR)) for path in (*WRITTEN, *REPORTS)}


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of what the documents are made from."""
    for name in ("docs", "suites"):
        shutil.copytree(PROJECT_DIR / name, tmp_path / name)
    shutil.copyfile(README, tmp_path / "README.md")
    return tmp_path


@pytest.mark.slow
def test_tables_and_charts_are_what_the_committed_runs_say():
    """``fdbench docs`` would change nothing: no figure of them was typed by hand."""
    made = render_documents(PROJECT_DIR)

    assert len(made) == 4
    assert [path for path, text in made.items() if path.read_text("utf-8") != text] == []


@pytest.mark.slow
def test_docs_puts_back_what_was_changed_by_hand_and_nothing_else(checkout):
    """Only what stands between the marks is fdbench's."""
    before = (checkout / "README.md").read_text()
    assert "441&nbsp;→&nbsp;344" in before
    (checkout / "README.md").write_text(
        before.replace("441&nbsp;→&nbsp;344", "441&nbsp;→&nbsp;144") + "by hand\n"
    )
    done = fdbench("docs", checkout)

    assert (done.code, done.err) == (0, "")
    assert [line.split()[0] for line in done.out.splitlines()] == ["written"] + ["unchanged"] * 3
    assert (checkout / "README.md").read_text() == before + "by hand\n"


@pytest.mark.slow
def test_docs_needs_a_checkout_with_runs_and_marks(checkout, tmp_path):
    """Each refusal says what is missing and where."""
    readme = checkout / "README.md"
    readme.write_text(readme.read_text().replace("<!-- end of measured -->", ""))
    unmarked = fdbench("docs", checkout)
    (tmp_path / "empty").mkdir()
    empty = fdbench("docs", tmp_path / "empty")

    assert (unmarked.code, empty.code) == (2, 2)
    assert "README.md must have these two lines" in unmarked.err
    assert "has no README.md" in empty.err
    assert "fdbench docs PATH" in empty.err


def test_readme_is_read_in_a_minute():
    """It is short, and the first command stands in the first screen."""
    lines = README.read_text().splitlines()

    assert len(lines) <= 120
    assert lines.index("make demo") < 12


def tokens_of(path) -> list[Token]:
    """A document as Markdown reads it."""
    return MarkdownIt().enable("table").parse(path.read_text())


def anchors(path) -> set[str]:
    """Names that GitHub gives to a document's headings."""
    tokens = tokens_of(path)
    titles = [tokens[n + 1] for n, token in enumerate(tokens) if token.type == "heading_open"]
    texts = ["".join(part.content for part in title.children) for title in titles]
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}


def targets(path) -> list[str]:
    """Every link and image of a document, HTML's too."""
    found = re.findall(r"(?:src|srcset|href)=\"([^\"]+)\"", path.read_text())
    for token in tokens_of(path):
        for part in token.children or ():
            found += [part.attrs[key] for key in ("href", "src") if key in part.attrs]
    return found


@pytest.mark.parametrize("path", NAMES, ids=NAMES.values())
def test_links_lead_somewhere(path):
    """A relative link names a file that is there, and a heading that is in it."""
    broken = []
    for target in targets(path):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        there = path.parent / name if name else path
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)

    assert broken == []


def test_every_document_is_reached_from_the_readme():
    """Nothing that people write lies where nobody finds it."""
    reached, queue = {README}, [README]
    while queue:
        here = queue.pop()
        for target in targets(here):
            there = (here.parent / target.partition("#")[0]).resolve()
            if there in WRITTEN and there not in reached:
                reached.add(there)
                queue.append(there)

    assert [NAMES[path] for path in WRITTEN if path not in reached] == []


def sentences(path) -> list[str]:
    """Sentences of a document's paragraphs and lists; tables and code have none."""
    found, in_table = [], False
    for token in tokens_of(path):
        in_table = (in_table or token.type == "table_open") and token.type != "table_close"
        if token.type == "inline" and not in_table:
            parts = [" " if part.type == "softbreak" else part.content for part in token.children]
            found += re.split(r"(?<=[.:;?!])\s", re.sub(LISTS, "", "".join(parts)))
    return found


@pytest.mark.parametrize("path", WRITTEN, ids=map(NAMES.get, WRITTEN))
def test_no_sentence_has_to_be_read_twice(path):
    """Short ones only: what is long is two sentences, or a list."""
    long = [text for text in sentences(path) if len(text.split()) > LONGEST_SENTENCE]

    assert long == []


@pytest.mark.slow
def test_clone_of_any_system_has_the_same_bytes(tmp_path):
    """Where git is told to write Windows' line endings, evidence and code stay as they are."""
    if not (PROJECT_DIR / ".git").exists():
        pytest.skip("no git repository: a clone cannot be tried from an archive")
    settings = ["-c", "core.autocrlf=true", "-c", "core.eol=crlf"]
    words = ["git", *settings, "clone", "--quiet", "--depth", "1", f"file://{PROJECT_DIR}"]
    subprocess.run([*words, str(tmp_path / "clone")], check=True, capture_output=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=tmp_path / "clone", capture_output=True, check=True
    )
    names = listed.stdout.decode().rstrip("\0").split("\0")
    committed = subprocess.run(
        ["git", "cat-file", "--batch"],
        input="".join(f"HEAD:{name}\n" for name in names).encode(),
        cwd=PROJECT_DIR,
        capture_output=True,
        check=True,
    ).stdout
    for name in names:
        header, _, committed = committed.partition(b"\n")
        size = int(header.split()[2])
        content, committed = committed[:size], committed[size + 1 :]
        assert (tmp_path / "clone" / name).read_bytes() == content, name
