"""The page by a tiny tokenizer and a tiny language model, in this process and as a server."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from viq.app.limits import Limits
from viq.app.models import Checkpoint, load_checkpoints
from viq.app.server import create_app
from viq.mllm import AdapterConfig, MultimodalConfig, MultimodalModel


@pytest.fixture(scope="session")
def run_folder(tiny_tokenizer_folder, tmp_path_factory) -> Path:
    """A run's folder: the tiny tokenizer's place is in the language model that reads its codes."""
    folder = tmp_path_factory.mktemp("app") / "reader"
    torch.manual_seed(0)
    config = MultimodalConfig(
        lm="tiny", tokenizer=str(tiny_tokenizer_folder), adapter=AdapterConfig(rank=4)
    )
    MultimodalModel.build(config).save_pretrained(folder / "mllm")
    return folder


@pytest.fixture(scope="session")
def checkpoints(run_folder, tiny_tokenizer_folder) -> list[Checkpoint]:
    """One with a language model, and nano, without."""
    found = load_checkpoints([str(run_folder), "nano"])
    found[1].language, found[1].why_not = None, "No language model comes with nano: viq app"
    return found


@pytest.fixture(scope="session")
def picture_bytes():
    """Makes a picture's file: mostly one colour, by which it is told from others."""

    def make(colour=(200, 40, 90), size=(48, 32), form="PNG") -> bytes:
        values = np.empty((size[1], size[0], 3), np.uint8)
        values[:] = colour
        values[: size[1] // 2, : size[0] // 2] //= 2
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, form)
        return buffer.getvalue()

    return make


class Page:
    """What the page does, without a browser."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        self.about = client.post("/api/session").json()
        self.headers = {"X-ViQ-Session": self.about["session"]}

    def post(self, path: str, **options: Any) -> Any:
        return self.client.post(path, headers=self.headers, **options)

    def get(self, path: str) -> Any:
        return self.client.get(path, headers=self.headers)

    def events(self, path: str, **options: Any) -> list[dict[str, Any]]:
        """The events of a request that is served."""
        response = self.post(path, **options)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("application/x-ndjson")
        return [json.loads(line) for line in response.text.splitlines()]

    def picture(self, path: str, **options: Any) -> dict[str, Any]:
        """The picture that a request ends with."""
        *_, picture, done = self.events(path, **options)
        assert (picture["type"], done) == ("picture", {"type": "done"})
        return picture

    def upload(self, data: bytes, name: str = "a.png") -> dict[str, Any]:
        return self.picture(f"/api/pictures?name={name}", content=data)

    def codes(self, picture: dict[str, Any]) -> bytes:
        """Its .viq file."""
        response = self.get(f"/api/pictures/{picture['picture']}/codes.viq")
        assert response.status_code == 200
        return response.content

    def image(self, picture: dict[str, Any], which: str) -> Image.Image:
        response = self.get(f"/api/pictures/{picture['picture']}/{which}.png")
        assert response.status_code == 200
        return Image.open(io.BytesIO(response.content))


@pytest.fixture
def open_app(checkpoints):
    """Makes applications with limits of one's own, and gives a client of each."""
    clients = []

    def make(**limits: Any) -> TestClient:
        client = TestClient(
            create_app(checkpoints, Limits(**limits)), base_url="http://127.0.0.1:7860"
        )
        clients.append(client.__enter__())
        return client

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(open_app) -> TestClient:
    return open_app()


@pytest.fixture
def open_page():
    """Opens a page of an application."""
    return Page


@pytest.fixture
def page(client) -> Page:
    return Page(client)


class Server:
    """`viq app` as people start it."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "viq.cli.main", "app", "--port", "0"]
        self.process = subprocess.Popen(
            [*command, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        self.url = self.line.split()[3] if self.line else ""

    def stop(self) -> str:
        """Ends it; what it said on stderr."""
        self.process.terminate()
        _, err = self.process.communicate(timeout=30)
        return err


@pytest.fixture(scope="session")
def start_server():
    """Starts servers."""
    return Server


@pytest.fixture(scope="session")
def server(run_folder, tiny_tokenizer_folder):
    """A server of the tiny models; the second has no language model."""
    server = Server("--model", run_folder, "--model", tiny_tokenizer_folder)
    assert server.url, server.stop()
    yield server
    assert server.stop() == ""
