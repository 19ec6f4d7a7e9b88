"""What each reason code means, in plain words, and what to do about it."""

from wnv.ingest.tasks import StageName

_NOTHING = "Nothing to do."
_AGAIN = "Try again: `retry={code}`."
_OTHER_POSE = "Other settings of pose may help, then `retry={code}`."

# Meaning, then the way out: settings stand in backticks, {code} is the reason as `retry` takes it. A key with its stage
# wins over the code alone.
_REASONS: dict[str, tuple[str, str]] = {
    "gone": (
        "The video was deleted or made private; some sites say the same of one that is not shown where you are.",
        _NOTHING,
    ),
    "geo": ("The site does not show this video where you are.", "From elsewhere: `fetch.proxy=...` `retry={code}`."),
    "login": (
        "The site shows this video only to people who are logged in.",
        "Log in in a browser, save its cookies to a file, then `fetch.cookies=cookies.txt` `retry={code}`.",
    ),
    "premium": (
        "Only paying members of the site may see this video.",
        "With the cookies of an account that may: `fetch.cookies=cookies.txt` `retry={code}`.",
    ),
    "preview": (
        "The site gave a short preview in place of the video.",
        "With the cookies of an account that may see all of it: `fetch.cookies=cookies.txt` `retry={code}`.",
    ),
    "risk_control": (
        "The site took the downloader for a robot and asked it to wait.",
        "Wait some hours; cookies and longer pauses help. Then `retry={code}`.",
    ),
    "transient": ("The network or the site failed, at every try.", _AGAIN),
    "unsupported": (
        "The downloader does not know this kind of page.",
        "A newer yt-dlp may: upgrade it, then `retry={code}`.",
    ),
    "forbidden_address": (
        "The address is not http(s) at an allowed host, so it was not touched.",
        "If you trust the host: `fetch.hosts=[...]` `retry={code}`.",
    ),
    "wrong_length": ("What came is shorter or longer than the video is said to be.", _AGAIN),
    "too_large": ("The video is larger than the settings of fetch allow.", "Allow more, then `retry={code}`."),
    "empty_file": ("The file holds nothing.", _AGAIN),
    "fetch/corrupt": ("What came cannot be decoded.", _AGAIN),
    "corrupt": ("The video cannot be decoded.", "Fetch it anew: `redo=[fetch]` with `keys=[...]`."),
    "too_short": (
        "Nothing long enough is left between the cuts.",
        "Ask for less with the settings of clip, then `retry={code}`.",
    ),
    "too_dark": ("The picture is too dark to be of use.", _NOTHING),
    "no_parallax": ("The camera stands still or only turns: no depth can be learned from it.", _NOTHING),
    "few_frames": ("There are too few frames.", _NOTHING),
    "no_video": ("There is no video in the file.", _NOTHING),
    "few_registered": ("Too few frames found their place: blur, bare walls or a moving crowd.", _OTHER_POSE),
    "reprojection": ("The cameras do not fit the points they see well enough.", _OTHER_POSE),
    "low_parallax": ("Everything is seen from nearly one direction: depth would be a guess.", _NOTHING),
    "focal": ("The focal length that came out is no real camera's.", _OTHER_POSE),
    "jump": ("The camera path jumps: a cut was missed, or two places were taken for one.", _OTHER_POSE),
    "no_model": ("No reconstruction could be started: too little texture or movement.", _OTHER_POSE),
    "timeout": ("It took longer than allowed.", "Allow more time, then `retry={code}`."),
    "crashed": ("The process that worked on it died, more than once.", "Its message may say why. " + _AGAIN),
    "out_of_memory": ("It needed more memory than allowed.", "Fewer workers or a higher limit, then `retry={code}`."),
    "error": ("Something nobody foresaw; a bug, if it comes again.", "Read its message. " + _AGAIN),
    "redo": ("It was done before and is to be done anew, as ordered.", "Run on."),
    "changed": ("What it is made from has changed since it was done.", "Run on."),
    "no_space": ("The disk was full: the run stopped, nothing was lost.", "Make room and run on."),
    "read_only": ("The output folder cannot be written.", "Make it writable and run on."),
    "denied": ("You may not write to the output folder.", "Change its rights and run on."),
}


def explain(stage: StageName, reason: str) -> tuple[str, str]:
    """What a reason means and what to do about it, settings in backticks; an unknown code is said to be one."""
    meaning, way_out = _REASONS.get(f"{stage}/{reason}") or _REASONS.get(
        reason, ("No words for this one: its items' messages say more.", _AGAIN)
    )
    return meaning, way_out.replace("{code}", f"[{reason}]")
