"""A small hub on this machine: repositories of models with commits, over huggingface_hub's HTTP."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest


@dataclass
class Repository:
    """Its commits by name, oldest first: all files of each."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, lines: list[dict]) -> str:
        """Adds the files of a commit to those of the last one."""
        files = dict(self.at("main") or {})
        for line in lines:
            if line["key"] == "file":
                value = line["value"]
                assert value["encoding"] == "base64"
                files[value["path"]] = base64.b64decode(value["content"])
            assert line["key"] in ("file", "header")
        name = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits[name] = files
        return name

    def name(self, revision: str) -> str | None:
        if revision == "main":
            return list(self.commits)[-1] if self.commits else None
        return revision if revision in self.commits else None

    def at(self, revision: str) -> dict[str, bytes] | None:
        return self.commits.get(self.name(revision) or "")


class Hub(ThreadingHTTPServer):
    """The server; ``repositories`` by owner/name."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        match self.parts():
            case [owner, name, "resolve", revision, *path]:
                self.file(f"{owner}/{name}", revision, "/".join(path))
            case ["api", "models", owner, name, *rest] if rest[:1] in ([], ["revision"]):
                repository = self.server.repositories.get(f"{owner}/{name}", Repository())
                commit = repository.name(rest[1] if rest else "main")
                if commit is None:
                    return self.missing("RevisionNotFound")
                files = [{"rfilename": path} for path in repository.commits[commit]]
                self.answer({"id": f"{owner}/{name}", "sha": commit, "siblings": files})
            case ["api", "models", owner, name, "tree", revision, *folder]:
                files = self.server.repositories[f"{owner}/{name}"].at(revision)
                if files is None or (folder and not any(p.startswith(folder[0]) for p in files)):
                    return self.missing("EntryNotFound")
                self.answer(
                    [
                        {"type": "file", "path": path, "size": len(data), "oid": etag(data)}
                        for path, data in files.items()
                    ]
                )
            case _:
                self.missing("RepoNotFound")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        match self.parts():
            case ["api", "repos", "create"]:
                wanted = json.loads(body)
                name = f"{wanted.get('organization') or 'someone'}/{wanted['name']}"
                self.server.repositories.setdefault(name, Repository())
                self.answer({"url": f"{self.server.url}/{name}"})
            case ["api", "validate-yaml"]:
                self.answer({"errors": [], "warnings": []})
            case ["api", "models", _, _, "preupload", "main"]:
                files = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
                self.answer({"files": files})
            case ["api", "models", owner, name, "commit", "main"]:
                lines = [json.loads(line) for line in body.splitlines()]
                commit = self.server.repositories[f"{owner}/{name}"].commit(lines)
                url = f"{self.server.url}/{owner}/{name}/commit/{commit}"
                self.answer({"success": True, "commitOid": commit, "commitUrl": url})
            case _:
                self.missing("RepoNotFound")

    def parts(self) -> list[str]:
        return [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]

    def file(self, repository: str, revision: str, path: str) -> None:
        found = self.server.repositories.get(repository)
        files = None if found is None else found.at(revision)
        if files is None:
            return self.missing("RepoNotFound" if found is None else "RevisionNotFound")
        if path not in files:
            return self.missing("EntryNotFound", found.name(revision))
        data = files[path]
        headers = {"X-Repo-Commit": found.name(revision), "ETag": f'"{etag(data)}"'}
        self.answer(data, **headers)

    def missing(self, code: str, commit: str | None = None) -> None:
        known = {} if commit is None else {"X-Repo-Commit": commit}
        self.answer({"error": code}, 404, **{"X-Error-Code": code}, **known)

    def answer(self, content, status: int = 200, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": len(data), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@pytest.fixture(scope="session")
def hub():
    """The server, as long as the tests run."""
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def on_hub(hub, tmp_path_factory):
    """Runs code in a process that knows no other hub, and returns what it prints as JSON."""

    def run(code: str, **names: object) -> dict:
        home = tmp_path_factory.mktemp("hub-home")
        places = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_TOKEN": "hf_of-no-use"}
        head = "".join(f"{name} = {value!r}\n" for name, value in names.items())
        process = subprocess.run(
            [sys.executable, "-c", head + code],
            capture_output=True,
            check=False,
            cwd=home,
            env=os.environ | places | {"no_proxy": "127.0.0.1", "HF_HUB_OFFLINE": "0"},
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=100,
        )
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout.splitlines()[-1])

    return run
