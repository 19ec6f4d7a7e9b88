"""Meaning and remedy of each reason code."""

from wnv.ingest.tasks import StageName

_NOTHING = "Nothing to do."
_AGAIN = "Retry: `retry={code}`."
_NEXT_RUN = "The next run processes it."

# Meaning and remedy, settings in backticks; {code} is the reason as `retry` takes it. STAGE/CODE precedes CODE.
_REASONS: dict[str, tuple[str, str]] = {
    "gone": (
        "The video was deleted, made private, or is not available in your region.",
        _NOTHING,
    ),
    "geo": ("The video is not available in your region.", "Use a proxy elsewhere: `fetch.proxy=...` `retry={code}`."),
    "login": (
        "The video requires a login.",
        "Log in in a browser, save its cookies to a file, then `fetch.cookies=cookies.txt` `retry={code}`.",
    ),
    "premium": (
        "The video requires a paid membership.",
        "Use the cookies of a member: `fetch.cookies=cookies.txt` `retry={code}`.",
    ),
    "preview": (
        "The site sent a short preview instead of the video.",
        "Use the cookies of an account with full access: `fetch.cookies=cookies.txt` `retry={code}`.",
    ),
    "risk_control": (
        "The site rate-limited the downloader.",
        "Wait some hours. Cookies and longer pauses help: `fetch.request_pause_s=5` `retry={code}`.",
    ),
    "transient": ("The network or the site failed at every attempt.", _AGAIN),
    "unsupported": (
        "yt-dlp does not support this page.",
        "Upgrade yt-dlp, then `retry={code}`.",
    ),
    "forbidden_address": (
        "The address is not http(s) at an allowed host, so it was not requested.",
        "If you trust the host: `fetch.hosts=[...]` `retry={code}`.",
    ),
    "taken_out": ("It was removed by `wnv-data forget`.", "To add it again: `retry={code}`."),
    "duplicate": (
        "The root has the same video under another key: a short link, another address, or an identical file.",
        "The message says how to merge the segments of both.",
    ),
    "wrong_length": ("The file is shorter or longer than the site states.", _AGAIN),
    "too_large": ("The video is larger than the limit.", "Raise it: `fetch.max_gb=...` `retry={code}`."),
    "empty_file": ("The file is empty.", _AGAIN),
    "fetch/corrupt": ("The downloaded file cannot be decoded.", _AGAIN),
    "pack/corrupt": ("The clip or its poses cannot be read.", "Redo them: `redo=[clip,pose]` with `keys=[...]`."),
    "corrupt": ("The video cannot be decoded.", "Fetch it again: `redo=[fetch]` with `keys=[...]`."),
    "missing_file": ("The video file is missing.", _AGAIN),
    "missing": (
        "An input or output file is missing.",
        "The next run writes it again; if that failed, `retry={code}`.",
    ),
    "too_short": (
        "No shot between the cuts is long enough.",
        "Relax the limit: `clip.rules.min_s=1` `retry={code}`.",
    ),
    "too_dark": (
        "The video is too dark.",
        "Relax the limit: `clip.rules.min_brightness=0.04` `retry={code}`.",
    ),
    "frozen": ("The image does not change.", _NOTHING),
    "not_fetched": (
        "A marked segment is in none of the fetched parts.",
        "Fetch the video again: `redo=[fetch]` with `keys=[...]`.",
    ),
    "no_parallax": (
        "The camera does not move or only turns, so depth cannot be recovered.",
        "Film your own place again, walking sideways; to try this one: `clip.rules.min_parallax=0` `retry={code}`.",
    ),
    "few_frames": (
        "No shot between the cuts has enough frames.",
        "Relax the limit: `clip.rules.min_frames=4` `retry={code}`.",
    ),
    "few_photos": ("The folder has fewer than 3 photographs.", "Add photographs of the same place and run again."),
    "unsupported_photo": (
        "The format of the photographs, or their pose estimation, is not supported as installed.",
        "See the message, then `retry={code}`.",
    ),
    "no_video": ("The file has no video stream.", _NOTHING),
    "few_registered": (
        "Too few frames were registered; usual causes are blur, bare walls and crowds.",
        "Relax the limit: `pose.filters.min_registered=0.5` `retry={code}`.",
    ),
    "reprojection": (
        "The reprojection error is too large.",
        "Relax the limit: `pose.filters.max_reprojection_px=2` `retry={code}`.",
    ),
    "low_parallax": (
        "The viewing directions differ too little to recover depth, or the camera only turns.",
        "Relax the limit that the message names: `pose.filters.min_parallax_deg=1.5` `retry={code}`, or "
        "`pose.estimator.max_homography_ratio=1` `retry={code}`.",
    ),
    "focal": (
        "The estimated focal length or distortion is implausible.",
        "Try another `pose.estimator.camera_model=...` with `retry={code}`.",
    ),
    "jump": (
        "The camera path jumps: a cut was missed, or two places were matched.",
        "Try more frames: `pose.max_frames=96` `retry={code}`.",
    ),
    "given_poses": (
        "The file with the cameras of the video is missing or invalid.",
        "See the message, then `retry={code}`.",
    ),
    "no_model": (
        "No reconstruction could be started: too little texture or movement.",
        "Try more features: `pose.estimator.num_features=8192` `retry={code}`.",
    ),
    "pose/timeout": ("It took longer than the limit.", "Raise it: `pose.time_limit_s=3600` `retry={code}`."),
    "pose/out_of_memory": (
        "It needed more memory than the limit.",
        "Raise it: `pose.memory_limit_gb=8` `retry={code}`.",
    ),
    "timeout": ("It took longer than the limit.", _AGAIN),
    "out_of_memory": (
        "The machine ran out of memory.",
        "With fewer workers: `executor.num_workers=1` `retry={code}`.",
    ),
    "crashed": ("The worker process died at every attempt.", "See the message. " + _AGAIN),
    "node_lost": ("The node was lost at every attempt.", _AGAIN),
    "node_without_root": (
        "The output folder is not mounted on a node of the cluster, or another folder has its path there.",
        "Mount it under the same path on every node, then `retry={code}`.",
    ),
    "no_space_elsewhere": (
        "A disk other than that of the output folder was full, such as the folder for temporary files.",
        "Free some space, or set `pose.workspace=...`; then `retry={code}`.",
    ),
    "no_access": (
        "A file or folder outside of the output folder may not be read or written.",
        "Change its permissions, then `retry={code}`.",
    ),
    "error": ("Unexpected error; please report it if it repeats.", "See the message. " + _AGAIN),
    "interrupted": ("A run was killed while processing it.", _NEXT_RUN),
    "redo": ("It is redone on request.", _NEXT_RUN),
    "retry": ("It is retried on request.", _NEXT_RUN),
    "changed": ("Its input has changed since it was done.", _NEXT_RUN),
    "no_space": ("The disk was full, so the run stopped. Finished work is safe.", "Free some space and run again."),
    "read_only": ("The output folder is read-only.", "Make it writable and run again."),
    "denied": ("Writing to the output folder is not permitted.", "Change its permissions and run again."),
}


def explain(stage: StageName, reason: str) -> tuple[str, str]:
    """Return what a reason code means and what to do about it, settings in backticks."""
    meaning, remedy = _REASONS.get(f"{stage}/{reason}") or _REASONS.get(
        reason, ("Unknown reason; see the messages of its items.", _AGAIN)
    )
    return meaning, remedy.replace("{code}", f"[{reason}]")
