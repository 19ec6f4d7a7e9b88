"""Folders of local videos."""

import os
from pathlib import Path

import pytest

from wnv.ingest.manifest.videos import read_videos


def test_videos_are_found_in_all_subfolders(tmp_path: Path) -> None:
    for name in ["b.MP4", "a/视频 😀.mov", "a/notes.txt", ".hidden/c.mp4", "a/._d.mp4", "z.mkv"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    lines, report = read_videos(tmp_path, kind="dynamic")
    assert [(line.key, line.url, line.title) for line in lines] == [
        ("file:b.MP4", "b.MP4", "b"),
        ("file:z.mkv", "z.mkv", "z"),
        ("file:a/视频 😀.mov", "a/视频 😀.mov", "视频 😀"),
    ]
    assert lines[2].rows == ({"file": str(tmp_path), "row": 3, "cells": ["a/视频 😀.mov"]},)
    assert all(line.kind == "dynamic" and not line.segments for line in lines)
    assert report["num_other_files"] == 1


def test_a_name_that_is_not_utf8_is_a_line_without_a_key(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"\xff.mp4")).touch()
    except OSError:
        pytest.skip("this file system accepts UTF-8 names only")
    lines, _ = read_videos(tmp_path, kind="static")
    assert [(line.key, line.codes) for line in lines] == [(None, ("file_name_unwritable",))]


def test_folders_without_videos(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match=r"no videos .* 1 files"):
        read_videos(tmp_path, kind="static")
    with pytest.raises(NotADirectoryError):
        read_videos(tmp_path / "a.txt", kind="static")
