"""What the page takes and keeps at most, and how it says no."""

from dataclasses import dataclass


class RefusedError(Exception):
    """A request that is not served.

    Attributes:
        status: of the answer, as HTTP has it.
        message: one sentence, for the person at the page.
    """

    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(message)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on what people send, and on what is kept of it in memory.

    Attributes:
        max_bytes: of an uploaded file.
        max_pixels: larger pictures are scaled down to this many before they are encoded; codes of
            larger ones are refused.
        max_file_pixels: pictures that declare more are refused before they are decoded.
        upload_seconds: an upload that takes longer is cut off.
        max_jobs: requests in line at once, those that still upload included.
        max_session_jobs: likewise of one page.
        max_sessions: pages that are open; the one unused longest goes first.
        max_pictures: of one page; it bounds how far edits can be undone.
        max_session_bytes: of one page's pictures.
        max_total_bytes: of all pages' pictures.
        idle_seconds: a page unused for so long is forgotten.
        max_question: characters.
        max_new_tokens: of an answer.
    """

    max_bytes: int = 20 * 2**20
    max_pixels: int = 2**20
    max_file_pixels: int = 64_000_000
    upload_seconds: float = 120
    max_jobs: int = 64
    max_session_jobs: int = 4
    max_sessions: int = 1000
    max_pictures: int = 32
    max_session_bytes: int = 64 * 2**20
    max_total_bytes: int = 512 * 2**20
    idle_seconds: float = 30 * 60
    max_question: int = 2000
    max_new_tokens: int = 256


def megabytes(count: int) -> str:
    """A number of bytes as people say it."""
    return f"{count / 2**20:.3g} MB" if count >= 2**18 else f"{count:,} bytes"
