"""Every command's help, those of commands below commands too: examples that parse, no bare flag."""

import argparse
import re
import shlex

import pytest

from viq.cli.main import make_parser


def parsers(parser):
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


ALL = {parser.prog: parser for parser in parsers(make_parser())}


def examples(parser):
    """The words of each example of ours, without comments and without what a shell does with it."""
    text = (parser.epilog or "").replace("\\\n", " ")
    for line in re.findall(r"^  (viq .*)$", text, re.MULTILINE):
        yield shlex.split(re.split(r" [|>] ", line)[0], comments=True)[1:]


def test_there_are_commands_below_commands():
    assert {"viq encode", "viq eval cost", "viq convert official"} <= ALL.keys()


@pytest.mark.parametrize("prog", ALL)
def test_examples_are_there_and_parse(prog):
    parser = ALL[prog]
    assert re.match(r"examples?:\n  ", parser.epilog or "")
    found = list(examples(parser))
    assert found
    own = prog.split()[1:]
    assert any(words[: len(own)] == own for words in found)
    for words in found:
        _, rest = make_parser().parse_known_args(words)
        assert rest == [] or words[0] == "train"  # whose recipes take more


@pytest.mark.parametrize("prog", ALL)
def test_every_argument_says_what_it_is(prog):
    bare = [
        action.dest
        for action in ALL[prog]._actions
        if not action.help and not isinstance(action, argparse._SubParsersAction)
    ]
    assert bare == []


@pytest.mark.parametrize("prog", ALL)
def test_no_line_that_we_broke_is_wider_than_a_terminal(prog):
    lines = [*(ALL[prog].description or "").splitlines(), *(ALL[prog].epilog or "").splitlines()]
    assert [line for line in lines if len(line) > 100] == []
