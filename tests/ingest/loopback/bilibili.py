"""Bilibili's pages as yt-dlp's own extractors read them, served by the loopback site."""

import functools
import json
from typing import Any
from urllib.parse import urlsplit

from loopback.site import LoopbackSite
from yt_dlp.networking import Request, Response
from yt_dlp.networking.exceptions import HTTPError

from wnv.ingest.fetch.downloader import GuardedYoutubeDL

_WBI = "https://i0.hdslb.com/bfs/wbi/"


class LoopbackYoutubeDL(GuardedYoutubeDL):
    """yt-dlp for which Bilibili is on the loopback site: `https://HOST/PATH` is fetched from `SITE/~HOST/PATH`."""

    def __init__(self, params: Any, *, guard: Any, base: str) -> None:
        self._base = base
        super().__init__(params, guard=guard)

    def urlopen(self, req: Request | str) -> Response:
        """Send a request to the site instead; the response has the original URL."""
        request = Request(req) if isinstance(req, str) else req.copy()
        parts = urlsplit(request.url)
        if (parts.hostname or "").endswith(("bilibili.com", "bilivideo.com", "b23.tv")):
            request.url = f"{self._base}/~{parts.hostname}{parts._replace(scheme='', netloc='').geturl()}"
        try:
            response = super().urlopen(request)
        except HTTPError as error:
            error.response.url = self._real(error.response.url)
            raise
        response.url = self._real(response.url)
        return response

    def _real(self, url: str) -> str:
        prefix = f"{self._base}/~"
        return "https://" + url.removeprefix(prefix) if url.startswith(prefix) else url


def loopback_ydl(site: LoopbackSite) -> functools.partial[LoopbackYoutubeDL]:
    """The argument of `FetchStage(ydl=...)` that redirects Bilibili to the site."""
    return functools.partial(LoopbackYoutubeDL, base=site.url)


class BilibiliPages:
    """Puts Bilibili on a loopback site.

    Args:
        site: The site.
    """

    def __init__(self, site: LoopbackSite) -> None:
        self._site = site
        self._playurls: dict[str, bytes] = {}
        self._parts: dict[str, int] = {}
        wbi = {
            "img_url": f"{_WBI}7cd084941338484aae1ad9425b84077c.png",
            "sub_url": f"{_WBI}{'4932caff0ff746ea' * 2}.png",
        }
        self._api("/x/web-interface/nav", lambda query: _json({"data": {"wbi_img": wbi}}))
        self._api("/x/player/wbi/playurl", self._playurl)
        self._api("/x/player/pagelist", self._pagelist)
        self._api("/x/player/wbi/v2", lambda query: _json({"data": {}}))
        self._api("/x/web-interface/wbi/view/detail", lambda query: _json({"data": {"View": {}}}))

    def video(
        self,
        bvid: str,
        media: str,
        *,
        duration_s: float,
        num_parts: int = 1,
        playurl: dict[str, Any] | None = None,
        state: dict[str, Any] | None = None,
        streams: list[dict[str, Any]] | None = None,
        descriptions: list[str] | None = None,
        is_upower: bool = False,
        html: bytes | None = None,
    ) -> str:
        """Add a video's page and the requests of its player; return the page's address.

        Args:
            bvid: `BV...`.
            media: Address of its stream.
            duration_s: Duration that the site states, seconds.
            num_parts: More than one makes it an anthology.
            playurl: Complete response of the API, instead of a valid one; the page then names no streams.
            state: Merged into the page's `__INITIAL_STATE__`.
            streams: One entry per stream, merged into the default stream.
            descriptions: Names of the qualities.
            is_upower: Only for supporters.
            html: The whole page.
        """
        stream = {
            "id": 64,
            "baseUrl": media,
            "mimeType": "video/mp4",
            "codecs": "avc1.64001F",
            "width": 128,
            "height": 72,
            "frameRate": "25",
            "bandwidth": 100_000,
        }
        info = {
            "timelength": round(duration_s * 1000),
            "accept_description": descriptions or ["高清 720P"],
            "accept_quality": [64],
            "support_formats": [{"quality": 64, "new_description": "720P 高清"}],
            "dash": {"video": [stream | changes for changes in streams or [{}]], "audio": []},
        }
        answer = playurl if playurl is not None else {"code": 0, "data": info}
        self._playurls[bvid] = _json(answer)
        self._parts[bvid] = num_parts
        pages = [{"cid": 100 + part} for part in range(num_parts)]
        initial = {
            "videoData": {
                "bvid": bvid,
                "aid": 7,
                "cid": 100,
                "title": "一镜到底 🏠 walk",
                "pages": pages,
                "is_upower_exclusive": is_upower,
                "rights": {},
            },
            **(state or {}),
        }
        script = f"window.__INITIAL_STATE__={json.dumps(initial)};"
        if playurl is None:
            script += f"</script><script>window.__playinfo__={json.dumps(answer)}"
        page = f"<html><script>{script}</script></html>".encode()
        self._site.add(f"/~www.bilibili.com/video/{bvid}", html or page, content_type="text/html; charset=utf-8")
        return f"https://www.bilibili.com/video/{bvid}"

    def deleted(self, bvid: str) -> str:
        """Add a video that is deleted or geo-restricted; the page is the same for both."""
        return self.video(bvid, "", duration_s=0, state={"error": {"trueCode": -404}})

    def login(self, bvid: str) -> str:
        """Add a video that requires a login."""
        return self.video(bvid, "", duration_s=0, state={"error": {"trueCode": -403}})

    def captcha(self, bvid: str, *, quote: str = '"') -> str:
        """The page that is shown after too many requests."""
        risk = f"{{{quote}v_voucher{quote}: {quote}voucher_1{quote}}}"
        html = f"<html><script>window._riskdata_ = {risk}</script></html>".encode()
        return self.video(bvid, "", duration_s=0, html=html)

    def episode(self, number: int, media: str, *, duration_s: float, detail: str = "PLAY_WHOLE", html: str = "") -> str:
        """An episode of a series."""
        stream = {
            "id": 64,
            "baseUrl": media,
            "mimeType": "video/mp4",
            "codecs": "avc1.64001F",
            "width": 128,
            "height": 72,
        }
        info = {"timelength": round(duration_s * 1000), "dash": {"video": [stream], "audio": []}}
        answer = {"code": 0, "result": {"video_info": info, "play_check": {"play_detail": detail}}}
        self._api("/pgc/player/web/v2/playurl", lambda query: _json(answer))
        self._api(
            "/pgc/view/web/season",
            lambda query: _json(
                {
                    "result": {
                        "season_id": 1,
                        "seasons": [{"season_id": 1, "season_title": "一"}],
                        "episodes": [{"id": number, "title": "1"}],
                    }
                }
            ),
        )
        path = f"/bangumi/play/ep{number}"
        self._site.add(
            f"/~www.bilibili.com{path}", f"<html>{html}</html>".encode(), content_type="text/html; charset=utf-8"
        )
        return f"https://www.bilibili.com{path}"

    def _api(self, path: str, body: Any) -> None:
        self._site.add(f"/~api.bilibili.com{path}", body, content_type="application/json")

    def _playurl(self, query: dict[str, str]) -> bytes:
        return self._playurls.get(query["bvid"], _json({"code": -404, "message": "啥都木有"}))

    def _pagelist(self, query: dict[str, str]) -> bytes:
        num_parts = self._parts.get(query["bvid"], 1)
        return _json(
            {"data": [{"page": part + 1, "part": f"P{part + 1}", "cid": 100 + part} for part in range(num_parts)]}
        )


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
