"""The manifest has every file of a run, and whatever happens to one is noticed."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import IntegrityFault
from harness.records import PairRow
from harness.store.manifest import (
    MANIFEST_FILE,
    Entry,
    append_manifest,
    read_manifest,
    write_manifest,
)
from harness.store.run import open_run
from tests.test_store import PAIR, add_trial, files, filled, manifest, run

pytestmark = pytest.mark.unit

__all__ = ["filled", "run"]  # fixtures

ENTRIES = st.builds(Entry, path=st.text(), sha256=st.text(), pruned=st.booleans())
LINES = (
    '{"schema": 3}',
    '{"path": "a", "sha256": "1"}',
    '{"path": "b", "sha256": "2", "pruned": true}',
    '{"path": "a", "sha256": "1", "dropped": true}',
    '{"unfinished": "the line above"}',
    '{"path": "a", "sh',
    '{"path": 1, "sha256": "1"}',
    '{"path": "a", "sha256": "1"}, {"path": "c", "sha256": "3"}',
    "[" * 50,
    "",
)
"""Lines of a manifest, whole, odd and torn."""


@given(st.lists(st.lists(ENTRIES, max_size=4), max_size=4))
def test_what_is_entered_is_read_back(tmp_path_factory, additions):
    """Whatever the names, in however many additions: of two entries with one path the later."""
    folder = tmp_path_factory.getbasetemp()
    (folder / MANIFEST_FILE).unlink(missing_ok=True)  # a folder an example would be thousands
    wanted = {}
    for entries in additions:
        append_manifest(folder, entries)
        wanted |= {one.path: one for one in sorted(entries, key=lambda entry: entry.path)}

    assert read_manifest(folder) == wanted


@given(st.lists(st.sampled_from(LINES), max_size=8), st.binary(max_size=3), st.integers(0, 60))
def test_any_bytes_are_entries_or_a_fault(tmp_path_factory, lines, odd, cut):
    """No damage makes reading fail in another way, or return an entry that is none."""
    text = "\n".join([*lines, ""]).encode()
    path = tmp_path_factory.getbasetemp() / MANIFEST_FILE
    path.write_bytes(text[:-cut] + odd if cut else text)
    try:
        entries = read_manifest(path.parent)
    except IntegrityFault:
        return
    assert all(isinstance(name, str) and entry.path == name for name, entry in entries.items())
    assert all(isinstance(entry.sha256, str) for entry in entries.values())
    assert not any(entry.dropped for entry in entries.values())


def test_manifest_covers_every_file(filled):
    """Tables, logs, captures and whatever else a side wrote are in the manifest."""
    assert set(manifest(filled)) == files(filled)
    assert files(filled) >= {"logs/t/job.json", "captures/t/latents_ar000.safetensors"}


def test_folder_that_a_side_made_is_kept(run):
    """Files in folders of the job folder are kept and in the manifest too."""
    add_trial(run, "outputs/stats.json")

    assert "logs/t/outputs/stats.json" in manifest(run)
    assert set(manifest(run)) == files(run)


def test_untouched_run_verifies(filled):
    """Nothing is wrong with a run that nobody touched, opened again."""
    verified = open_run(filled.folder)
    verified.verify()

    assert verified.read_rows(PairRow) == [PAIR]


def test_any_altered_file_is_named(filled):
    """One byte more, one less, or the file gone: each file of the run is watched."""
    for name in sorted(manifest(filled)):
        path = filled.folder / name
        content = path.read_bytes()
        for spoiled in (content + b" ", content[:-1]):
            path.write_bytes(spoiled)
            with pytest.raises(IntegrityFault, match=f"{name} was altered"):
                filled.verify()
        path.unlink()
        with pytest.raises(IntegrityFault, match=f"{name} is missing"):
            filled.verify()
        path.write_bytes(content)
    filled.verify()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"not json\n", id="not-json"),
        pytest.param(b"[]\n", id="not-an-entry"),
        pytest.param(b'{"path": "run.json"}\n', id="no-digest"),
        pytest.param(b"\xff\xfe", id="not-text"),
        pytest.param(None, id="missing"),
    ],
)
def test_damaged_manifest_is_refused(filled, content):
    """A manifest that says less than the folder holds verifies nothing."""
    path = filled.folder / MANIFEST_FILE
    path.unlink() if content is None else path.write_bytes(content)

    with pytest.raises(IntegrityFault, match=r"MANIFEST\.jsonl|run\.json"):
        filled.verify()


def test_half_a_manifest_is_refused(filled):
    """Wherever the manifest is cut, the cut is noticed."""
    path = filled.folder / MANIFEST_FILE
    content = path.read_bytes()
    for cut in range(0, len(content) - 1, 37):
        path.write_bytes(content[:cut])
        with pytest.raises(IntegrityFault):
            filled.verify()


def test_file_that_the_manifest_lacks_is_refused(filled):
    """A step table that was slipped in is not read as the run's."""
    (filled.folder / "steps" / "zz.parquet").write_bytes(
        (filled.folder / "steps" / "t.parquet").read_bytes()
    )

    with pytest.raises(IntegrityFault, match=r"zz\.parquet"):
        filled.verify()


def test_line_that_a_killed_writer_left_unfinished_is_none(filled):
    """Cut anywhere, it names no file, and the next line is whole."""
    path = filled.folder / MANIFEST_FILE
    content, entries = path.read_bytes(), read_manifest(filled.folder)
    line = b'{"path": "steps/x.parquet", "sha256": "' + b"0" * 64 + b'"}'
    for cut in range(1, len(line), 7):
        path.write_bytes(content + line[:cut])
        filled.verify()
        append_manifest(filled.folder, [entries["run.json"]])
        assert path.read_text().splitlines()[-2] == '{"unfinished": "the line above"}'
        filled.verify()
        assert read_manifest(filled.folder).keys() == entries.keys()


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("garbage", id="garbage"),
        pytest.param("[]", id="list"),
        pytest.param('{"path": 5, "sha256": "x"}', id="number-for-a-path"),
        pytest.param('{"path": "x", "sha256": 5}', id="number-for-a-digest"),
        pytest.param("[" * 100_000, id="deep"),
    ],
)
@pytest.mark.parametrize("is_last", [True, False], ids=["last", "in-the-middle"])
def test_line_that_is_none_is_refused(filled, line, is_last):
    """Only what a killed writer may have left counts for nothing."""
    path = filled.folder / MANIFEST_FILE
    lines = path.read_text().splitlines(keepends=True)
    lines.insert(len(lines) if is_last else 2, line + "\n")
    path.write_text("".join(lines))

    with pytest.raises(IntegrityFault, match=r"MANIFEST\.jsonl: not a manifest"):
        filled.verify()


def test_line_in_the_middle_that_lost_its_end_is_refused(filled):
    """A writer that was killed leaves such a line at the end, or under the next one's remark."""
    path = filled.folder / MANIFEST_FILE
    first, second, rest = path.read_text().split("\n", 2)
    path.write_text("\n".join((first, second.replace("}", "]"), rest)))

    with pytest.raises(IntegrityFault, match=r"MANIFEST\.jsonl: not a manifest"):
        filled.verify()


@pytest.mark.parametrize("table", ["pairs", "trials", "parity", "steps"])
def test_link_among_the_parts_is_no_part(filled, tmp_path, table):
    """It is read by nobody who has not been told of it."""
    (part,) = list((filled.folder / table).glob("*.parquet"))[:1]
    (tmp_path / "elsewhere").write_bytes(part.read_bytes())
    (filled.folder / table / "zz.parquet").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(IntegrityFault, match=r"zz\.parquet is not in MANIFEST"):
        filled.verify()


def test_earlier_record_that_is_put_back_is_noticed(filled):
    """It has a good digest of its own, and it is not the one that was entered last."""
    path = filled.folder / "run.json"
    earlier = path.read_bytes()
    filled.write_record(replace(filled.read_record(), description="later"))
    path.write_bytes(earlier)

    with pytest.raises(IntegrityFault, match=r"run\.json was altered"):
        filled.verify()


def test_line_that_was_altered_is_refused(filled):
    """Unlike one that was never finished, it ends as a line does."""
    path = filled.folder / MANIFEST_FILE
    path.write_text(path.read_text().replace('"sha256"', '"sha255"', 1))

    with pytest.raises(IntegrityFault, match=r"MANIFEST\.jsonl: not a manifest"):
        filled.verify()


def test_manifest_of_another_version_is_refused(filled):
    """A file of another version is refused by name, with both versions."""
    path = filled.folder / MANIFEST_FILE
    path.write_text(path.read_text().replace('{"schema": 3}', '{"schema": 7}'))

    with pytest.raises(
        IntegrityFault, match=r"MANIFEST\.jsonl is of schema 7.* reads schema 2 and 3"
    ):
        filled.verify()


def test_prune_mark_stands_for_an_absent_file(filled):
    """A file that was removed on purpose is not missing; one put there must be the same."""
    entries = read_manifest(filled.folder)
    name = "captures/t/latents_ar000.safetensors"
    write_manifest(filled.folder, (entries | {name: replace(entries[name], pruned=True)}).values())
    filled.verify()
    (filled.folder / name).unlink()
    filled.verify()
    (filled.folder / name).write_text("another")
    with pytest.raises(IntegrityFault, match=name):
        filled.verify()
