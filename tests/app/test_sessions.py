"""What is kept, for whom and how long."""

import pytest

from viq.app.limits import Limits, RefusedError
from viq.app.pictures import Picture, Source
from viq.app.sessions import Sessions


@pytest.fixture
def clock():
    """A clock that stands until it is set."""

    def now():
        return now.time

    now.time = 0.0
    return now


@pytest.fixture
def picture(checkpoints, tiny_tokenizer):
    """Makes pictures of given bytes, of one source or of their own."""
    from PIL import Image

    codes = tiny_tokenizer.encode(Image.new("RGB", (32, 32)))  # 32 bytes

    def make(nbytes, source=None):
        source = source or Source("a.png", b"")
        return Picture(
            source=source,
            checkpoint=checkpoints[0],
            codes=codes,
            png=b"x" * (nbytes - codes.nbytes),
            quality=None,
        )

    return make


def test_a_page_that_is_not_used_is_forgotten(clock):
    sessions = Sessions(Limits(idle_seconds=10), clock)
    first, second = sessions.new(), sessions.new()
    clock.time = 9
    assert sessions.find(second.token) is second
    clock.time = 11
    sessions.sweep()
    assert len(sessions) == 1
    with pytest.raises(RefusedError, match="was not used for long"):
        sessions.find(first.token)
    assert sessions.find(second.token) is second


def test_tokens_and_numbers_cannot_be_guessed(clock, picture):
    sessions = Sessions(Limits(), clock)
    tokens = {sessions.new().token for _ in range(100)}
    numbers = {picture(100).number for _ in range(100)}
    assert (len(tokens), len(numbers)) == (100, 100)
    assert min(map(len, tokens)) >= 32
    assert min(map(len, numbers)) >= 16


def test_of_too_many_pages_the_one_idle_longest_is_over(clock):
    sessions = Sessions(Limits(max_sessions=2), clock)
    first, second = sessions.new(), sessions.new()
    sessions.find(first.token)
    sessions.new()
    assert sessions.find(first.token) is first
    with pytest.raises(RefusedError):
        sessions.find(second.token)


def test_a_page_keeps_its_latest_pictures(clock, picture):
    sessions = Sessions(Limits(max_pictures=3, max_session_bytes=1000), clock)
    session = sessions.new()
    kept = [picture(100) for _ in range(5)]
    for one in kept:
        sessions.keep(session, one)
    assert list(session.pictures.values()) == kept[2:]
    session.picture(kept[2].number)  # used, so kept longer
    sessions.keep(session, picture(900))
    assert list(session.pictures) == [kept[2].number, list(session.pictures)[-1]]
    sessions.keep(session, picture(5000))  # the one on show is kept, however large
    assert len(session.pictures) == 1
    with pytest.raises(RefusedError, match="no longer kept; load it again"):
        session.picture(kept[0].number)


def test_an_original_counts_once(clock, picture):
    sessions = Sessions(Limits(), clock)
    session, source = sessions.new(), Source("a.png", b"y" * 1000)
    for _ in range(3):
        sessions.keep(session, picture(100, source))
    assert session.nbytes == sessions.nbytes == 1300


def test_of_all_pages_that_used_longest_ago_loses_its_pictures_first(clock, picture):
    sessions = Sessions(Limits(max_total_bytes=250), clock)
    first, second, third = (sessions.new() for _ in range(3))
    for session in (first, second):
        sessions.keep(session, picture(100))
    sessions.find(first.token)
    sessions.keep(third, picture(100))
    assert [len(session.pictures) for session in (first, second, third)] == [1, 0, 1]
