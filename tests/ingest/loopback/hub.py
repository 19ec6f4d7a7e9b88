"""A Hugging Face hub on this machine: the requests of huggingface_hub to create, fill and read a model repository."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "a" * 40


class ScriptedHub:
    """Repositories in memory.

    Attributes:
        endpoint: The hub's address.
        files: Repository -> path -> content.
        private: Repository -> whether it was made private.
        tokens: Tokens that may write; others get status 401.
    """

    def __init__(self) -> None:
        self.endpoint = ""
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.tokens = {"hf_writer"}

    def answer(self, method: str, path: str, token: str, body: bytes) -> tuple[int, dict, bytes]:
        """Status, headers and content of the response to a request."""
        if method == "POST" and token not in self.tokens:
            return _json({"error": "Invalid credentials"}, status=401)
        if path == "/api/validate-yaml":
            return _json({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if name in self.files:
                return _json(
                    {"error": "You already created this model repo", "url": f"{self.endpoint}/{name}"}, status=409
                )
            self.files[name] = {}
            self.private[name] = asked.get("visibility") == "private" or bool(asked.get("private"))
            return _json({"url": f"{self.endpoint}/{name}"})
        parts = path.removeprefix("/api/models").strip("/").split("/")
        name, rest = "/".join(parts[:2]), parts[2:]
        if name not in self.files:
            return _json({"error": "Repository not found"}, status=404, code="RepoNotFound")
        if rest[:1] == ["preupload"]:
            asked = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": each, "uploadMode": "regular", "shouldIgnore": False} for each in asked]
            return _json({"files": modes})
        if rest[:1] == ["commit"]:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return _json({"success": True, "commitOid": COMMIT, "commitUrl": f"{self.endpoint}/{name}/commit/{COMMIT}"})
        if rest[:1] == ["revision"] or not rest:
            siblings = [{"rfilename": each} for each in self.files[name]]
            return _json({"id": name, "sha": COMMIT, "siblings": siblings, "private": self.private[name]})
        if rest[:1] == ["tree"]:
            entries = [
                {"type": "file", "path": each, "size": len(content), "oid": "0" * 40}
                for each, content in self.files[name].items()
            ]
            return 200, {"Content-Type": "application/json"}, json.dumps(entries).encode()
        if rest[:1] == ["resolve"] and "/".join(rest[2:]) in self.files[name]:
            content = self.files[name]["/".join(rest[2:])]
            return 200, {"X-Repo-Commit": COMMIT, "ETag": f'"{hash(content) & (2**64 - 1):016x}"'}, content
        return _json({"error": "Entry not found"}, status=404, code="EntryNotFound")


@contextmanager
def serving() -> Iterator[ScriptedHub]:
    """Serve a hub on a free port of this machine until the block ends."""
    hub = ScriptedHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            status, headers, content = hub.answer(self.command, self.path.partition("?")[0], token, body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = handle_any

        def log_message(self, *arguments: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _json(content: dict, *, status: int = 200, code: str | None = None) -> tuple[int, dict, bytes]:
    headers = {"Content-Type": "application/json"} | ({"X-Error-Code": code} if code else {})
    return status, headers, json.dumps(content).encode()
