"""scripts/download.py against a stand-in for the hub on this machine."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WEIGHTS = bytes(range(256)) * 100_000  # above the client's chunk of 10 MiB: less is not kept when a transfer breaks
REPOSITORY, REVISION = "Drexubery/ViewCrafter_25_512", "a" * 40


class Hub(BaseHTTPRequestHandler):
    """The three requests that one download makes."""

    listed_hash = hashlib.sha256(WEIGHTS).hexdigest()
    ranges: list = []  # noqa: RUF012 (each server gets its own subclass)
    cut_first = False

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        if "/api/models/" in self.path:
            lfs = {"sha256": self.listed_hash, "size": len(WEIGHTS), "pointerSize": 130}
            files = [
                {"rfilename": name, "size": len(WEIGHTS), "lfs": lfs} for name in ("model.ckpt", "model.safetensors")
            ]
            files += [{"rfilename": name, "size": len(WEIGHTS)} for name in ("config.json", "preprocessor_config.json")]
            card = {"license": "apache-2.0"}
            fields = {"id": REPOSITORY, "modelId": REPOSITORY, "sha": REVISION, "siblings": files, "cardData": card}
            return self.reply(200, json.dumps(fields).encode(), {"Content-Type": "application/json"}, with_body)
        if "/resolve/" not in self.path:
            return self.reply(404, b"", {}, with_body)
        start = 0
        if with_body and (asked := self.headers.get("Range")):
            self.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").split("-")[0])
        headers = {"ETag": f'"{self.listed_hash}"', "X-Repo-Commit": REVISION, "X-Linked-Size": str(len(WEIGHTS))}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(WEIGHTS) - 1}/{len(WEIGHTS)}"
        if with_body and not start and self.cut_first:
            type(self).cut_first = False
            headers["Content-Length"] = str(len(WEIGHTS))
            return self.reply(200, WEIGHTS[: len(WEIGHTS) // 2], headers, with_body)
        return self.reply(206 if start else 200, WEIGHTS[start:], headers, with_body)

    def reply(self, status, body, headers, with_body):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@pytest.fixture
def hub():
    handler = type("OneHub", (Hub,), {"ranges": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    handler.url = f"http://127.0.0.1:{server.server_port}"
    yield handler
    server.shutdown()
    thread.join()


def download(tmp_path, endpoint, *options, answer="", release="viewcrafter-512"):
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(ROOT),
        "NO_PROXY": "127.0.0.1",
    }
    command = [sys.executable, str(ROOT / "scripts" / "download.py"), release]
    command += ["--folder", str(tmp_path / "checkpoints"), *options]
    return subprocess.run(command, env=environment, input=answer, capture_output=True, text=True, timeout=120)


def test_shows_asks_fetches_and_checks(hub, tmp_path):
    result = download(tmp_path, hub.url, answer="y\n")
    assert result.returncode == 0, result.stderr
    before, after = result.stdout.split("Fetch it?")
    for fact in (REPOSITORY, "model.ckpt", f"{len(WEIGHTS):,} bytes", "apache-2.0", str(tmp_path / "checkpoints")):
        assert fact in before
    file = tmp_path / "checkpoints" / "viewcrafter-512" / "model.ckpt"
    convert = f"fvgen convert {file} models/viewcrafter-512 --variant viewcrafter-512"
    assert after.splitlines()[-1] == f"{file} is whole. Next: {convert}"
    assert file.read_bytes() == WEIGHTS


def test_goes_on_where_a_transfer_broke_off(hub, tmp_path):
    hub.cut_first = True
    result = download(tmp_path, hub.url, "--yes")
    if result.returncode != 0:  # huggingface-hub before 1.0 does not go on by itself after this error
        assert "Run this again: it goes on where it stopped." in result.stderr
        result = download(tmp_path, hub.url, "--yes")
    assert result.returncode == 0, result.stderr
    assert len(hub.ranges) == 1
    assert 0 < int(hub.ranges[0].removeprefix("bytes=").rstrip("-")) <= len(WEIGHTS) // 2
    assert (tmp_path / "checkpoints" / "viewcrafter-512" / "model.ckpt").read_bytes() == WEIGHTS


def test_a_depth_network_is_a_folder_that_needs_no_conversion(hub, tmp_path):
    result = download(tmp_path, hub.url, "--yes", release="depth-anything-v2-small")
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "checkpoints" / "depth-anything-v2-small"
    assert result.stdout.splitlines()[-1].endswith(f"--geometry-completion depth-anything --depth-model {folder}")
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        assert (folder / name).read_bytes() == WEIGHTS and f"file         {name}" in result.stdout


def test_no_is_no(hub, tmp_path):
    result = download(tmp_path, hub.url, answer="\n")
    assert result.returncode == 0
    assert "Nothing fetched" in result.stdout
    assert not (tmp_path / "checkpoints").exists()


def test_a_file_that_does_not_hash_to_what_the_hub_lists_is_refused(hub, tmp_path):
    hub.listed_hash = "0" * 64
    result = download(tmp_path, hub.url, "--yes")
    assert result.returncode == 2
    assert "must hash to 0000" in result.stderr


def test_offline_is_one_line_that_says_what_to_do(tmp_path):
    result = download(tmp_path, "http://127.0.0.1:9", "--yes")  # the discard port: nobody listens
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1
    assert "Go online" in result.stderr
    assert not (tmp_path / "checkpoints").exists()
