"""The closing lines of a preparation: short, aligned, harmless."""

import io
import re

import pytest
from corpus_report_sample import sample_corpus_report
from test_report_render import poisoned

from prill.report.corpus_terminal import MAX_LINES, plain_corpus_summary, write_corpus_summary


def test_the_account_comes_first_and_the_page_last():
    lines = plain_corpus_summary(sample_corpus_report(), report="runs/x/corpus.html").splitlines()
    assert lines[0] == "15,085 documents in, 12,104 kept."
    assert lines[-1] == "report: runs/x/corpus.html"
    assert "near copy                                        1,020    6.8 %  3.16 MB" in lines
    assert "never fired: c4: lorem ipsum, c4: curly bracket, blocked host" in lines


@pytest.mark.parametrize("is_hostile", [False, True])
def test_the_summary_fits_a_screen_and_harms_no_terminal(is_hostile: bool):
    data = sample_corpus_report()
    text = plain_corpus_summary(poisoned(data) if is_hostile else data, report="a\x1b[2Jb")
    assert len(text.splitlines()) <= MAX_LINES
    assert max(map(len, text.splitlines())) <= 170
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)


def test_columns_are_aligned():
    lines = plain_corpus_summary(sample_corpus_report()).splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("dropped for"))
    table = lines[first : lines.index("", first)]
    assert len({len(line) for line in table}) == 1


def test_a_stream_without_unicode_gets_what_it_can_show():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    write_corpus_summary("café: 3 documents in\n", stream)
    stream.flush()
    assert stream.buffer.getvalue() == b"caf?: 3 documents in\n"
