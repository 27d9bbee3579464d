"""A Hugging Face hub on this machine: the endpoints that huggingface_hub asks, over repositories in memory.

GET  /api/models/OWNER/NAME/revision/REV     commit, and size and checksum of each file
HEAD, GET /OWNER/NAME/resolve/REV/FILE       headers (ETag, X-Repo-Commit, X-Linked-Size ..), content
"""

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


def git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repository:
    """One commit by its files; names in `lfs` have a sha256, as on the hub where it is a matter of size."""

    files: dict[str, bytes]
    lfs: set[str] = field(default_factory=set)
    branches: dict[str, str] = field(default_factory=dict)  # what each means; empty: main is this commit
    gated: bool = False
    private: bool = False

    @property
    def commit(self) -> str:
        """Another one for other files."""
        listed = sorted((name, git_id(content)) for name, content in self.files.items())
        return hashlib.sha1(repr(listed).encode()).hexdigest()

    def has(self, revision: str) -> bool:
        return revision in {"main", self.commit, *self.branches}


class Hub(ThreadingHTTPServer):
    """What it serves can be changed at any time: `repositories` by name, `served` instead of a file's content."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.served: dict[str, bytes] = {}
        self.gone: set[str] = set()  # files that are listed, and not there
        self.status = 0  # what every request is answered with, if it is not 0
        self.asked: list[str] = []  # method and path of each request
        self.stall = threading.Event()  # set: a body stops after half of it, and goes on when it is cleared
        self.stalled = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def downloads(self) -> list[str]:
        """The files whose content was asked for."""
        contents = [line for line in self.asked if line.startswith("GET ") and "/resolve/" in line]
        return [line.rpartition("/resolve/")[2].partition("/")[2] for line in contents]

    def __enter__(self) -> "Hub":
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stall.clear()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path == "/api/agent-harnesses":  # asked by some versions of the library, about themselves
            return self._send(404, b"")
        self.server.asked.append(f"{self.command} {path}")
        if self.server.status:
            return self._send(self.server.status, b"")
        if path.startswith("/api/models/"):
            name, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            return self._about(name, revision or "main")
        name, _, rest = path[1:].partition("/resolve/")
        revision, _, file = rest.partition("/")
        return self._file(name, revision, file)

    def _repository(self, name: str, revision: str, *, content: bool) -> Repository | None:
        """The repository, unless it was answered that there is none."""
        found = self.server.repositories.get(name)
        if found is None or found.private:
            self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
        elif not found.has(revision):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif content and found.gated:
            self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        else:
            return found
        return None

    def _about(self, name: str, revision: str) -> None:
        found = self._repository(name, revision, content=False)
        if found is None:
            return
        siblings = []
        for file, content in found.files.items():
            entry = {"rfilename": file, "size": len(content), "blobId": git_id(content)}
            if file in found.lfs:
                sha256 = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        body = {"id": name, "modelId": name, "sha": found.commit, "siblings": siblings, "private": False, "tags": []}
        self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str, revision: str, file: str) -> None:
        found = self._repository(name, revision, content=True)
        if found is None:
            return None
        if file not in found.files or file in self.server.gone:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": found.commit})
        content = found.files[file]
        checksum = hashlib.sha256(content).hexdigest() if file in found.lfs else git_id(content)
        headers = {"ETag": f'"{checksum}"', "X-Repo-Commit": found.commit}
        if file in found.lfs:
            headers |= {"X-Linked-Etag": f'"{checksum}"', "X-Linked-Size": str(len(content))}
        return self._send(200, self.server.served.get(file, content), headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        half = len(body) // 2
        self.wfile.write(body[:half])
        if self.server.stall.is_set() and "/resolve/" in self.path and half > 1000:
            self.wfile.flush()
            self.server.stalled.set()
            while self.server.stall.is_set():
                threading.Event().wait(0.01)
        self.wfile.write(body[half:])
