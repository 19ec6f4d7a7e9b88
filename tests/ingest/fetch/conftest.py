"""Fixtures of the fetch stage: run it on an address."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loopback.bilibili import loopback_ydl
from loopback.site import LoopbackSite

from wnv.ingest.fetch.fetch_stage import FetchStage
from wnv.ingest.tasks import Outcome, Task, run_task

Fetch = Callable[..., Outcome]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An output root."""
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def fetch(site: LoopbackSite, root: Path) -> Fetch:
    """Fetches an address: `fetch(url, segments=[[5, 7]], key=None, other_segments=None, **settings)`."""

    def run(
        url: str,
        *,
        segments: Any = ((5, 7),),
        key: str | None = None,
        other_segments: Any = None,
        **settings: Any,
    ) -> Outcome:
        quick = {
            "hosts": ["127.0.0.1", "bilibili.com", "b23.tv"],
            "allow_private": True,
            "proxy": "",
            "request_pause_s": 0.0,
            "retry_pause_s": 0.02,
            "ydl": loopback_ydl(site),
        }
        payload = {
            "key": key or f"url:{url}",
            "url": url,
            "title": "a walk 🏠 一镜到底",
            "kind": "static",
            "segments": [list(segment) for segment in segments],
            "other_segments": other_segments,
            "rows": [],
            "codes": [],
            "split": "train",
        }
        task = Task(stage="fetch", item=key or f"url:{url}", root=root, payload=payload)
        return run_task(FetchStage(**{**quick, **settings}), task)

    return run


@pytest.fixture
def leftovers(root: Path) -> Callable[[], list[str]]:
    """Everything below the root, relative."""
    return lambda: sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
