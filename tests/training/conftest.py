"""What tests of training share: data, and a stage, small enough for a test."""

import importlib.util
import io
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

TOYS = Path(__file__).with_name("toys.py")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A folder of Parquet files as the recipes read them: 12 pictures to train on, 4 held out."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("validation", 4)):
        rows = []
        for i in range(count):
            low = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            picture = Image.fromarray(low).resize((160 + 8 * i, 140), Image.Resampling.BICUBIC)
            file = io.BytesIO()
            picture.save(file, "PNG")
            rows.append({"image": {"bytes": file.getvalue(), "path": None}, "kind": "photo"})
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}-00000.parquet")
    return folder


@pytest.fixture(scope="session")
def toys():
    """The module ``toys.py`` beside this file; that one can also be run in other processes."""
    spec = importlib.util.spec_from_file_location("toys", TOYS)
    module = importlib.util.module_from_spec(spec)
    sys.modules["toys"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def toy_process():
    """Starts ``toys.py`` in a process, or in one of several."""

    def start(*arguments, rank=0, processes=1, port=0, script=TOYS):
        environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
        if processes > 1:
            environment |= {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(processes),
                "LOCAL_WORLD_SIZE": str(processes),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
        command = [sys.executable, str(script), *map(str, arguments)]
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    return start


@pytest.fixture
def two_processes(toy_process):
    """Runs ``toys.py`` in two processes that train together, to the end; returns their stderr."""

    def run(*arguments, code=0, script=TOYS):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        place = {"processes": 2, "port": port, "script": script}
        both = [toy_process(*arguments, rank=rank, **place) for rank in range(2)]
        try:
            messages = [process.communicate(timeout=100)[1] for process in both]
        finally:
            for process in both:
                process.kill()
        assert [process.returncode for process in both] == [code, code], messages
        return messages

    return run
