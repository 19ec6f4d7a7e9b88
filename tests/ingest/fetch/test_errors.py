"""Classification of errors: a table of yt-dlp's messages."""

import errno
import io
from email.message import Message
from pathlib import Path

import pytest
from fake_stages import FakeStage
from yt_dlp.networking import Response
from yt_dlp.networking.exceptions import HTTPError, IncompleteRead, TransportError
from yt_dlp.utils import ContentTooShortError, DownloadError, ExtractorError, GeoRestrictedError, UnsupportedError

from wnv.ingest.fetch.errors import classify, disk_error
from wnv.ingest.fetch.guard import ForbiddenAddressError
from wnv.ingest.messages import one_line
from wnv.ingest.tasks import Outcome, Task, run_task


def http(status: int) -> HTTPError:
    return HTTPError(Response(io.BytesIO(), "https://api.bilibili.com/x?SESSDATA=1", Message(), status=status))


def wrapped(cause: Exception, text: str | None = None) -> DownloadError:
    """As YoutubeDL raises it."""
    return DownloadError(f"ERROR: {text or cause}", (type(cause), cause, None))


def page(cause: Exception) -> DownloadError:
    """Wrap an error of a page request as an extractor does."""
    return wrapped(ExtractorError(f"Unable to download webpage: {cause}", cause=cause, video_id="1x"))


def said(text: str, *, expected: bool = True) -> DownloadError:
    return wrapped(ExtractorError(text, expected=expected, video_id="1x"))


GONE = "This video may be deleted or geo-restricted. You might want to try a VPN or a proxy server (with --proxy)"

TABLE: list[tuple[Exception, str, str]] = [
    (page(http(404)), "refused", "gone"),
    (page(http(410)), "refused", "gone"),
    (said(GONE), "refused", "gone"),
    (page(http(451)), "refused", "geo"),
    (wrapped(GeoRestrictedError("This video is restricted")), "refused", "geo"),
    (page(http(401)), "refused", "login"),
    (page(http(403)), "refused", "login"),
    (said("This video is only available for registered users. Use --cookies"), "refused", "login"),
    (wrapped(UnsupportedError("https://passport.bilibili.com/login?go=1")), "refused", "login"),
    (said("This video is for premium members only. Use --cookies"), "refused", "premium"),
    (said("This is a supporter-only video: x"), "refused", "premium"),
    (page(http(412)), "failed", "risk_control"),
    (page(http(429)), "failed", "risk_control"),
    (said("You have exceeded the rate limit. Try again later"), "failed", "risk_control"),
    (said("Unable to extract initial state", expected=False), "failed", "risk_control"),
    (said("Unable to download video info: 352: 风控校验失败, please wait and try later"), "failed", "risk_control"),
    (said("Unable to download video info: 401, please wait and try later"), "failed", "risk_control"),
    (page(http(500)), "failed", "transient"),
    (page(http(503)), "failed", "transient"),
    (page(http(408)), "failed", "transient"),
    (page(TransportError("The read operation timed out")), "failed", "transient"),
    (page(TransportError(cause=ConnectionResetError(104, "Connection reset by peer"))), "failed", "transient"),
    (page(IncompleteRead(10, 20)), "failed", "transient"),
    (wrapped(ContentTooShortError(10, 20)), "failed", "transient"),
    (TimeoutError("timed out"), "failed", "transient"),
    (said("Did not get any data blocks"), "failed", "empty_file"),
    (wrapped(UnsupportedError("https://example.com/page")), "refused", "unsupported"),
    (said("Requested format is not available. Use --list-formats"), "refused", "unsupported"),
    (page(http(418)), "refused", "unsupported"),
    (said("Unable to extract title; please report this issue on  https://x", expected=False), "failed", "unsupported"),
    (page(ForbiddenAddressError("host 'x' is not allowed")), "refused", "forbidden_address"),
]


@pytest.mark.parametrize(("error", "state", "reason"), TABLE, ids=lambda value: str(value)[:40])
def test_table(error: Exception, state: str, reason: str) -> None:
    got_state, got_reason, message = classify(error, has_proxy=False)
    assert (got_state, got_reason) == (state, reason)
    assert message
    assert "\n" not in message
    assert "ERROR" not in message


def test_a_proxy_makes_it_worth_another_try() -> None:
    assert classify(said(GONE), has_proxy=True)[:2] == ("failed", "geo")
    assert classify(page(http(404)), has_proxy=True)[:2] == ("refused", "gone")


def test_a_warning_tells_why_there_are_no_formats() -> None:
    none = said("No video formats found!")
    warning = "[BiliBili] Unable to download video info: 352: 风控校验失败, please wait and try later"
    state, reason, message = classify(none, has_proxy=False, warnings=["slow", warning])
    assert (state, reason) == ("failed", "risk_control")
    assert "352" in message
    # The raised error takes precedence.
    assert classify(said(GONE), has_proxy=False, warnings=[warning])[1] == "gone"


def test_a_rejected_media_link_has_expired() -> None:
    for status in (403, 404, 410):
        assert classify(http(status), has_proxy=False, media=True)[:2] == ("failed", "transient")
    assert classify(http(412), has_proxy=False, media=True)[:2] == ("failed", "risk_control")


def test_messages_carry_nothing_personal() -> None:
    text = (
        "\x1b[0;31mERROR:\x1b[0m [BiliBili] 1x: Unable to\n download https://me:secret@www.bilibili.com/video/BV1x?"
        "vd_source=abc&mid=7#reply and https://b23.tv/x; Cookie SESSDATA=deadbeef; bili_jct=77, sid=9; please report"
        " this issue on  https://github.com/x"
    )
    message = one_line(text)
    assert message.startswith("[BiliBili] 1x: Unable to download https://www.bilibili.com/video/BV1x and")
    for secret in ("secret", "vd_source=abc", "mid=7", "deadbeef", "77", "sid=9", "report", "\n", "\x1b"):
        assert secret not in message
    assert len(one_line("x" * 5000)) == 300

    class Failing(FakeStage):
        def __call__(self, task: Task) -> Outcome:
            raise KeyError(text)

    outcome = run_task(Failing(name="fetch"), Task(stage="fetch", item="a", root=Path(), payload={}))
    assert "KeyError" in outcome.message
    assert "deadbeef" not in outcome.message


def test_the_disks_errors_are_found_below_yt_dlps() -> None:
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        full = OSError(number, "no")
        assert disk_error(wrapped(full, f"unable to write data: {full}")) is full
    assert disk_error(page(TransportError(cause=ConnectionResetError(104, "reset")))) is None
