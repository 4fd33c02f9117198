"""Code inside Markdown."""

import pytest

from viq.evaluation.markup import code, code_and_text


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("viq eval", "`viq eval`"),
        ("a`b", "``a`b``"),
        ("`a` ``b``", "``` `a` ``b`` ```"),
        ("a\n\nb\r\nc", "`a  b c`"),
    ],
)
def test_code_is_one_span_whatever_is_in_it(text, markdown):
    assert code(text) == markdown
    assert code_and_text(markdown) == [
        (False, ""),
        (True, " ".join(text.splitlines())),
        (False, ""),
    ]


def test_backticks_without_an_end_are_text():
    assert code_and_text("a `b`` <c>") == [(False, "a `b`` <c>")]
    assert code_and_text("` a ``b`` c") == [(False, "` a "), (True, "b"), (False, " c")]
