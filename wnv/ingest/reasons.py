"""What each reason code means, in plain words, and what to do about it."""

from wnv.ingest.tasks import StageName

_NOTHING = "Nothing to do."
_AGAIN = "Try again: `retry={code}`."
_ON = "The next run does it."

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
        "Wait some hours; cookies help, and longer pauses: `fetch.request_pause_s=5` `retry={code}`.",
    ),
    "transient": ("The network or the site failed, at every try.", _AGAIN),
    "unsupported": (
        "The downloader can do nothing with this page.",
        "A newer yt-dlp may: upgrade it, then `retry={code}`.",
    ),
    "forbidden_address": (
        "The address is not http(s) at an allowed host, so it was not touched.",
        "If you trust the host: `fetch.hosts=[...]` `retry={code}`.",
    ),
    "taken_out": ("Somebody did not want it here: `wnv-data forget`.", "To take it in again: `retry={code}`."),
    "duplicate": (
        "The same video is here under another name; one of the two is a short link.",
        "Its message says how to have the segments of both.",
    ),
    "wrong_length": ("What came is shorter or longer than the video is said to be.", _AGAIN),
    "too_large": ("The video is larger than one may be.", "Allow more: `fetch.max_gb=...` `retry={code}`."),
    "empty_file": ("The file holds nothing.", _AGAIN),
    "fetch/corrupt": ("What came cannot be decoded.", _AGAIN),
    "pack/corrupt": ("The clip or its poses cannot be read.", "Make them anew: `redo=[clip,pose]` with `keys=[...]`."),
    "corrupt": ("The video cannot be decoded.", "Fetch it anew: `redo=[fetch]` with `keys=[...]`."),
    "missing_file": ("The video was not there any more.", _AGAIN),
    "missing": (
        "What it is made from, or what was made, is not there any more.",
        "The next run makes it; where that failed, `retry={code}`.",
    ),
    "too_short": (
        "Nothing long enough is left between the cuts.",
        "Ask for less: `clip.rules.min_s=1` `retry={code}`.",
    ),
    "too_dark": (
        "The picture is too dark to be of use.",
        "Ask for less: `clip.rules.min_brightness=0.04` `retry={code}`.",
    ),
    "frozen": ("The picture does not change: a still, or a video that hangs.", _NOTHING),
    "not_fetched": (
        "A marked part lies in nothing that was fetched.",
        "Fetch the video anew: `redo=[fetch]` with `keys=[...]`.",
    ),
    "no_parallax": (
        "The camera stands still or only turns: no depth can be learned from it.",
        "Nothing to do; a place of your own can be filmed again, walking sideways.",
    ),
    "few_frames": ("There are too few frames.", _NOTHING),
    "no_video": ("There are no pictures in the file.", _NOTHING),
    "few_registered": (
        "Too few frames found their place: blur, bare walls or a moving crowd.",
        "Ask for less: `pose.filters.min_registered=0.5` `retry={code}`.",
    ),
    "reprojection": (
        "The cameras do not fit the points they see well enough.",
        "Ask for less: `pose.filters.max_reprojection_px=2` `retry={code}`.",
    ),
    "low_parallax": (
        "Everything is seen from nearly one direction: depth would be a guess.",
        "Ask for less: `pose.filters.min_parallax_deg=1.5` `retry={code}`.",
    ),
    "focal": (
        "The lens that came out is no real camera's.",
        "Another `pose.estimator.camera_model=...` may do: `retry={code}`.",
    ),
    "jump": (
        "The camera path jumps: a cut was missed, or two places were taken for one.",
        "More frames may do: `pose.max_frames=96` `retry={code}`.",
    ),
    "no_model": (
        "No reconstruction could be started: too little texture or movement.",
        "More features may do: `pose.estimator.num_features=8192` `retry={code}`.",
    ),
    "pose/timeout": ("It took longer than allowed.", "Allow more: `pose.time_limit_s=3600` `retry={code}`."),
    "pose/out_of_memory": (
        "It needed more memory than allowed.",
        "Allow more: `pose.memory_limit_gb=8` `retry={code}`.",
    ),
    "timeout": ("It took longer than allowed.", _AGAIN),
    "out_of_memory": ("There was too little memory for it.", "With fewer workers: `retry={code}`."),
    "crashed": ("The process that worked on it died, at every try.", "Its message may say why. " + _AGAIN),
    "node_lost": ("The machine that worked on it was lost, at every try.", _AGAIN),
    "error": ("Something nobody foresaw; a bug, if it comes again.", "Read its message. " + _AGAIN),
    "interrupted": ("A run was ended by force while it was at it.", _ON),
    "redo": ("It was done and is to be done anew, as ordered.", _ON),
    "retry": ("It is to be tried again, as ordered.", _ON),
    "changed": ("What it is made from has changed since it was done.", _ON),
    "no_space": ("The disk was full: the run stopped, nothing was lost.", "Make room and run again."),
    "read_only": ("The output folder cannot be written.", "Make it writable and run again."),
    "denied": ("You may not write to the output folder.", "Change its rights and run again."),
}


def explain(stage: StageName, reason: str) -> tuple[str, str]:
    """What a reason means and what to do about it, settings in backticks; an unknown code is said to be one."""
    meaning, way_out = _REASONS.get(f"{stage}/{reason}") or _REASONS.get(
        reason, ("No words for this one: its items' messages say more.", _AGAIN)
    )
    return meaning, way_out.replace("{code}", f"[{reason}]")
