"""The container of a scene file: an uncompressed zip, read by byte range from a disk or an object store."""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from wnv.scenes.schema import MAX_IMAGE_BYTES, MAX_SCENE_JSON_BYTES, SCENE_JSON, SceneError, check_member_name

_LOCAL_HEADER = 30
# Maximum length of the name and the extra field of a local header.
_MAX_LOCAL_NAMES = 2 * 65535
_LOCAL_MAGIC = b"PK\x03\x04"
_ENCRYPTED = 0x1
# Small, since opening reads only the end of the file.
_REMOTE_BLOCK = 2**16


@dataclass(frozen=True)
class Member:
    """Location of a member in the archive.

    Attributes:
        start: First byte of its local header.
        stop: Upper bound of its last byte, exclusive.
        size: Bytes of content.
        crc: CRC-32 of the content.
    """

    start: int
    stop: int
    size: int
    crc: int


class Archive:
    """The directory of a scene file; members are read on request.

    No file is held open, so an archive may be pickled, forked and shared by threads.

    Args:
        path: A local path, or any URL that fsspec understands (`file://`, `memory://`, `s3://`, `https://`, ...).
            Credentials come from fsspec's configuration.

    Raises:
        FileNotFoundError: If there is no such file.
        SceneError: If it is not a complete, uncompressed zip with plain relative names.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self.members = self._read_directory()

    def read(self, name: str) -> bytes:
        """Read one member; see `read_many`."""
        return self.read_many([name])[0]

    def read_many(self, names: Sequence[str]) -> list[bytes]:
        """Read members and verify their checksums; remote ones are fetched in parallel.

        Raises:
            KeyError: If there is no such member.
            SceneError: If a checksum differs.
        """
        members = [self.members[name] for name in names]
        if is_url(self.path):
            chunks = self._read_remote(members)
        else:
            with self._open() as file:
                chunks = []
                for member in members:
                    file.seek(member.start)
                    chunks.append(file.read(member.stop - member.start))
        return [self._content(*item) for item in zip(names, members, chunks, strict=True)]

    def _read_remote(self, members: Sequence[Member]) -> list[bytes]:
        # Not stored: fsspec caches file systems, and a forked process needs its own.
        files, path = fsspec.core.url_to_fs(self.path)
        starts = [member.start for member in members]
        stops = [member.stop for member in members]
        return files.cat_ranges([path] * len(members), starts, stops, on_error="raise")

    def _content(self, name: str, member: Member, chunk: bytes) -> bytes:
        names_length = int.from_bytes(chunk[26:28], "little") + int.from_bytes(chunk[28:30], "little")
        begin = _LOCAL_HEADER + names_length
        content = chunk[begin : begin + member.size]
        if not chunk.startswith(_LOCAL_MAGIC) or len(content) != member.size or zlib.crc32(content) != member.crc:
            raise SceneError(
                f"{self.path}: {name} does not match its checksum; the file is damaged or was replaced while open; "
                "copy it again and reopen it"
            )
        return content

    def _open(self) -> Any:
        if is_url(self.path):
            files, path = fsspec.core.url_to_fs(self.path)
            return files.open(path, "rb", block_size=_REMOTE_BLOCK)
        if not Path(self.path).is_file():
            raise FileNotFoundError(f"{self.path}: no such scene file; name a .zip file, or a folder of them")
        return open(self.path, "rb")

    def _read_directory(self) -> dict[str, Member]:
        with self._open() as file:
            file.seek(0, 2)
            length = file.tell()
            try:
                with zipfile.ZipFile(file) as archive:
                    infos, directory_start = archive.infolist(), archive.start_dir
            except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
                file.seek(0)
                if file.read(4) == _LOCAL_MAGIC:
                    raise SceneError(
                        f"{self.path}: the zip is truncated or damaged ({error}); copy it again"
                    ) from error
                raise SceneError(
                    f"{self.path}: not a scene file, which is a zip ({length} bytes); make one with `wnv-data import`"
                ) from error
        return self._check_directory(infos, directory_start)

    def _check_directory(self, infos: list[zipfile.ZipInfo], directory_start: int) -> dict[str, Member]:
        members: dict[str, Member] = {}
        infos = sorted(infos, key=lambda info: info.header_offset)
        stops = [info.header_offset for info in infos[1:]] + [directory_start]
        for info, stop in zip(infos, stops, strict=False):  # an empty archive has no members but one stop
            # zipfile has already cleaned `filename`.
            name = info.orig_filename
            check_member_name(name.removesuffix("/"), f"{self.path}: member")
            if info.is_dir():
                continue
            what = f"{self.path}: {name}"
            if name in members:
                raise SceneError(f"{what} is duplicated; write the scene again")
            if info.flag_bits & _ENCRYPTED:
                raise SceneError(f"{what} must not be encrypted")
            if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                raise SceneError(
                    f"{what} must not be compressed ({info.compress_size} bytes for {info.file_size}); unpack the "
                    "file if you trust it and pack it with `zip -0 -r`"
                )
            limit = MAX_SCENE_JSON_BYTES if name == SCENE_JSON else MAX_IMAGE_BYTES
            if info.file_size > limit:
                raise SceneError(f"{what} must be at most {limit} bytes, got {info.file_size}")
            end = info.header_offset + _LOCAL_HEADER + info.file_size
            if info.header_offset < 0 or end > stop:
                raise SceneError(f"{what} overlaps the next member; the zip is damaged or malicious")
            members[name] = Member(
                start=info.header_offset, stop=min(stop, end + _MAX_LOCAL_NAMES), size=info.file_size, crc=info.CRC
            )
        return members


def is_url(path: str) -> bool:
    """Whether a path is a URL for fsspec: it names a protocol, or chains several."""
    return "://" in path or "::" in path
