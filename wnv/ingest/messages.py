"""Messages of errors, without what is personal."""

import re

_MAX_MESSAGE = 300
_REDACTIONS = (
    (r"\x1b\[[0-9;]*m", ""),
    (r"^\s*(ERROR|WARNING):\s*", ""),
    (r"(?s); please report this issue on.*", ""),
    (r"(?s) \(caused by <?\w+Error.*", ""),
    (r"(?s)Use --cookies.*", ""),
    (r"(https?://)[^\s/@'\"]*@", r"\1"),
    (r"(https?://[^\s?#'\"]*)[?#][^\s'\"]*", r"\1"),
    (r"(?i)\b(SESSDATA|bili_jct|DedeUserID\w*|buvid\w*|vd_source|access_key|token|sid)=[^\s;&'\"]+", r"\1=..."),
)


def one_line(text: str) -> str:
    """Reduce a message to one line, without yt-dlp's decoration, credentials, query strings and cookies."""
    for pattern, replacement in _REDACTIONS:
        text = re.sub(pattern, replacement, text)
    text = " ".join(text.split())
    return text if len(text) <= _MAX_MESSAGE else f"{text[: _MAX_MESSAGE - 3]}..."
