"""The closing lines say the same as the page, with or without colour, and never a control character."""

import io
from dataclasses import replace

from report_sample import sample_report

from prill.report.terminal import plain_summary, write_summary


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_plain_summary_names_every_verdict_once():
    text = plain_summary(sample_report(2), report="runs/x/report.html")
    assert text.splitlines()[0] == "DSIR is better than random for both targets."
    assert "fiction     DSIR against random         better       -0.567         -0.630 to -0.504" in text
    assert text.rstrip().endswith("report: runs/x/report.html")
    assert "\x1b" not in text


def test_plain_summary_is_ascii_when_the_data_is():
    assert plain_summary(sample_report(4)).isascii()


def test_a_pipe_gets_the_plain_text():
    stream = io.StringIO()
    write_summary(sample_report(1), stream)
    assert stream.getvalue() == plain_summary(sample_report(1))


def test_a_terminal_gets_a_table_with_the_same_words():
    stream = Terminal()
    write_summary(sample_report(2), stream, report="report.html")
    shown = stream.getvalue()
    for word in ("DSIR is better than random", "medical_qa", "better", "cannot tell", "report.html"):
        assert word in shown


def test_control_characters_and_markup_never_reach_the_terminal():
    sample = sample_report(1)
    target = replace(sample.targets[0], name="\x1b]0;owned\x07[bold]x[/bold]")
    hostile = replace(sample, targets=(target,), warnings=("\x1b[2J",))
    for stream in (io.StringIO(), Terminal()):
        write_summary(hostile, stream)
        assert "\x1b]0" not in stream.getvalue()
        assert "\x1b[2J" not in stream.getvalue()
        assert "[bold]x[/bold]" in stream.getvalue()
