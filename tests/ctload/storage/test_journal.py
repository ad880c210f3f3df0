import pytest

from ctload.errors import ChecksumError
from ctload.storage.journal import PACKED, Journal, JournalEntry, compact_journal, read_journal


def entry(study: str, digest: str = "d") -> JournalEntry:
    return JournalEntry({"study": study, "digest": digest}, {"split": "train"})


def test_later_lines_replace_earlier_ones_and_files_of_processes_replace_the_compacted_one(tmp_path):
    compact_journal(tmp_path, [entry("a", "old"), entry("b")])
    journal = Journal(tmp_path)
    journal.append(entry("a", "newer"))
    journal.append(entry("a", "newest"))
    journal.close()
    assert read_journal(tmp_path) == {"a": entry("a", "newest"), "b": entry("b")}


def test_a_torn_last_line_is_left_out_at_any_length(tmp_path):
    journal = Journal(tmp_path)
    journal.append(entry("a"))
    first = journal.path.stat().st_size
    journal.append(entry("b"))
    journal.close()
    whole = journal.path.read_bytes()
    for size in range(first, len(whole)):
        journal.path.write_bytes(whole[:size])
        assert set(read_journal(tmp_path)) == {"a"}
    journal.path.write_bytes(whole)
    assert set(read_journal(tmp_path)) == {"a", "b"}


def test_any_flipped_bit_of_a_whole_line_is_a_typed_error_naming_file_and_line(tmp_path):
    journal = Journal(tmp_path)
    journal.append(entry("a"))
    journal.append(entry("b"))
    journal.close()
    whole = journal.path.read_bytes()
    end_of_first = whole.index(b"\n")
    for bit in range(8 * end_of_first):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        journal.path.write_bytes(damaged)
        with pytest.raises(ChecksumError, match="line 1 of the journal") as caught:
            read_journal(tmp_path)
        assert caught.value.path == str(journal.path)


def test_a_lost_end_of_the_compacted_journal_is_an_error_since_it_is_never_torn(tmp_path):
    compact_journal(tmp_path, [entry("a"), entry("b")])
    path = tmp_path / PACKED
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ChecksumError, match="line 2"):
        read_journal(tmp_path)


def test_compaction_leaves_one_file_with_one_line_per_study(tmp_path):
    journal = Journal(tmp_path)
    for study in ("a", "b", "a"):
        journal.append(entry(study))
    journal.close()
    compact_journal(tmp_path, read_journal(tmp_path).values())
    assert [path.name for path in tmp_path.iterdir()] == [PACKED]
    assert (tmp_path / PACKED).read_bytes().count(b"\n") == 2
    assert read_journal(tmp_path) == {"a": entry("a"), "b": entry("b")}
