"""Hosts and addresses that the settings do not allow are neither resolved nor connected to."""

import socket
from typing import Any

import pytest
from loopback.site import LoopbackSite
from yt_dlp.networking import Request

from wnv.ingest.fetch.downloader import GuardedYoutubeDL
from wnv.ingest.fetch.guard import BILIBILI_HOSTS, AddressGuard, ForbiddenAddressError


def test_hosts() -> None:
    guard = AddressGuard(hosts=BILIBILI_HOSTS)
    for host in ("bilibili.com", "www.bilibili.com", "WWW.Bilibili.COM.", "b23.tv", "xy1.mcdn.bilivideo.cn"):
        guard.check_host("https", host)
    for host in ("evilbilibili.com", "bilibili.com.evil.org", "example.com", "", "127.0.0.1", "[::1]", "localhost"):
        with pytest.raises(ForbiddenAddressError, match="allowed"):
            guard.check_host("https", host)
    youtube = AddressGuard(hosts=["youtube.com"])
    for host in ("www.youtube.com", "youtu.be", "rr1---sn-x.googlevideo.com"):
        youtube.check_host("https", host)
    for scheme in ("file", "ftp", "data", "rtmp", ""):
        with pytest.raises(ForbiddenAddressError, match="only http"):
            guard.check_host(scheme, "bilibili.com")


def test_private_addresses() -> None:
    anywhere = AddressGuard(hosts=["*"])
    anywhere.check_host("http", "example.com")
    for public in ("93.184.216.34", "[2606:4700::1111]", "[64:ff9b::808:808]"):
        anywhere.check_host("http", public)
    private = """
        127.0.0.1 10.1.2.3 172.16.0.1 192.168.1.1 100.64.0.1 0.0.0.0 224.0.0.1 localhost [::1] [fd00::1] [fec0::1]
        [::ffff:127.0.0.1] [::ffff:0:a00:1] [2002:7f00:1::] [64:ff9b::7f00:1] [64:ff9b:1::a00:1] [::7f00:1]
    """
    for host in private.split():
        with pytest.raises(ForbiddenAddressError, match="not public"):
            anywhere.check_host("http", host)
        AddressGuard(hosts=["*"], allow_private=True).check_host("http", host)
    for host in ("169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]"):
        with pytest.raises(ForbiddenAddressError, match="link-local"):
            AddressGuard(hosts=["*"], allow_private=True).check_host("http", host)


@pytest.mark.parametrize("address", ["127.0.0.1", "0x7f.1", "2130706433", "10.0.0.5"])
def test_resolved_addresses_are_checked(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo

    def local(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        return resolve(address if host == "rebound.example.com" else host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", local)
    guard = AddressGuard(hosts=["*"])
    guard.check_host("http", "rebound.example.com")
    with pytest.raises(ForbiddenAddressError, match="not public"):
        guard.resolve("rebound.example.com", 80)
    assert AddressGuard(hosts=["*"], allow_private=True).resolve("rebound.example.com", 80)
    with GuardedYoutubeDL({"quiet": True, "proxy": ""}, guard=guard) as ydl, pytest.raises(ForbiddenAddressError):
        ydl.urlopen("http://rebound.example.com/")


def test_connects_to_what_was_checked(site: LoopbackSite, monkeypatch: pytest.MonkeyPatch) -> None:
    # DNS rebinding: the name is public when it is checked and private a moment later.
    resolve, answers = socket.getaddrinfo, iter(["93.184.216.34", "127.0.0.1"])
    connected: list[str] = []
    entry = {"93.184.216.34": "93.184.216.34"}

    def rebinding(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        name = next(answers) if host == "rebound.example.com" else host
        return resolve(entry.get(name, name), port, *args, **kwargs)

    def refuse(self: socket.socket, address: tuple[str, int]) -> None:
        connected.append(address[0])
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    guard = AddressGuard(hosts=["*"])
    with GuardedYoutubeDL({"quiet": True, "proxy": ""}, guard=guard) as ydl, pytest.raises(Exception, match="refused"):
        ydl.urlopen("http://rebound.example.com/")
    assert connected == ["93.184.216.34"]


def test_no_request_follows_a_redirect_out(site: LoopbackSite) -> None:
    target = site.add("/inside.mp4", b"secret")
    guard = AddressGuard(hosts=["127.0.0.1"], allow_private=True)
    with GuardedYoutubeDL({"quiet": True, "proxy": ""}, guard=guard) as ydl:
        good = site.redirects("/good", target, num_hops=3)
        assert ydl.urlopen(good).read() == b"secret"
        port = site.url.rpartition(":")[2]
        for place in (f"http://localhost:{port}/inside.mp4", "file:///etc/passwd", "ftp://127.0.0.1/x"):
            start = site.redirects("/bad", place, num_hops=2)
            before = len(site.requests("/inside.mp4"))
            with pytest.raises(Exception, match=r"allowed|only http|HTTP Error 302"):
                ydl.urlopen(Request(start))
            assert len(site.requests("/inside.mp4")) == before
        for place in ("file:///etc/passwd", "data:text/plain,x", "ftp://127.0.0.1/x"):
            with pytest.raises(Exception, match="only http"):
                ydl.urlopen(place)


def test_a_proxy_may_be_private_but_not_what_is_behind_it(site: LoopbackSite) -> None:
    guard = AddressGuard(hosts=["*"])
    with GuardedYoutubeDL({"quiet": True, "proxy": site.url}, guard=guard) as ydl:
        site.add("/page", b"through the proxy")
        # The request line of a proxied request holds the whole address; the site looks at its path.
        assert ydl.urlopen("http://example.com/page").read() == b"through the proxy"
        with pytest.raises(ForbiddenAddressError):
            ydl.urlopen("http://192.168.0.1/page")
