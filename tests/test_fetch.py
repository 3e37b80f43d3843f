"""Downloads, from a server on this machine: mirrors that fail, lie, dawdle or break off; and what
lies on the disk afterwards
"""

import gzip
import hashlib
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from spat_nb.app.cli import main
from spat_nb.data import fetch
from spat_nb.data.sources import get_data
from spat_nb.data.vision import torchvision

datasets = torchvision("datasets")


def md5(data):
    return hashlib.md5(data).hexdigest()


class Mirror:
    "One server; its behaviour is the first folder of the address: /right/, /wrong/, ..."

    def __init__(self):  # noqa: C901
        self.files, self.asked, mirror = {}, [], self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):  # noqa: C901
                kind, name = self.path.strip("/").split("/", 1)
                mirror.asked.append((kind, self.headers.get("Range")))
                data = mirror.files.get(name)
                if kind == "missing" or data is None:
                    return self.send_error(404)
                if kind == "fails":
                    return self.send_error(500)
                if kind == "elsewhere":
                    self.send_response(302)
                    self.send_header("Location", "http://example.org/x")
                    self.send_header("Content-Length", "0")
                    return self.end_headers()
                if kind == "login":
                    data = b"<html>please log in</html>"
                if kind == "wrong":
                    data = data[:-1] + b"x"
                if kind == "hangs":
                    time.sleep(3)
                at = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
                if kind == "whole":
                    at = 0  # knows no ranges
                if at >= len(data):
                    return self.send_error(416)
                self.send_response(206 if at else 200)
                if at:
                    self.send_header("Content-Range", f"bytes {at}-{len(data) - 1}/{len(data)}")
                self.send_header("Content-Length", str(len(data) - at))
                self.end_headers()
                rest = data[at:]
                if kind == "torn":
                    rest = rest[: max(1, len(rest) // 2)]  # breaks off half way
                try:
                    if kind == "slow":
                        for k in range(0, len(rest), 200):
                            self.wfile.write(rest[k : k + 200])
                            self.wfile.flush()
                            time.sleep(0.02)
                    else:
                        self.wfile.write(rest)
                except OSError:
                    pass
                self.close_connection = kind == "torn"

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def at(self, *kinds):
        return [f"http://127.0.0.1:{self.server.server_port}/{k}/" for k in kinds]


@pytest.fixture
def mirror(monkeypatch):
    for k in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(k, raising=False)
        monkeypatch.delenv(k.upper(), raising=False)
    monkeypatch.setattr(fetch, "WAIT", 1.0)
    monkeypatch.setattr(fetch, "LOOK", 0.2)
    m = Mirror()
    yield m
    m.server.shutdown()
    m.server.server_close()


DATA = np.random.default_rng(0).bytes(60_000)


def left(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock"))


@pytest.mark.parametrize(
    "kinds",
    [
        ["right"],
        ["fails", "right"],
        ["missing", "fails", "right"],
        ["wrong", "right"],
        ["login", "right"],
        ["hangs", "right"],
        ["elsewhere", "right"],
        ["torn", "right"],
        ["torn", "whole"],
        ["slow", "right"],
        ["slow"],
        ["wrong", "torn", "fails", "whole"],
        ["slow", "fails"],
        ["slow", "wrong"],
    ],
)
def test_the_first_mirror_that_gives_it_whole(kinds, mirror, tmp_path):
    mirror.files["a.bin"] = DATA
    fetch.download(tmp_path / "a.bin", md5(DATA), [u + "a.bin" for u in mirror.at(*kinds)])
    assert (tmp_path / "a.bin").read_bytes() == DATA and left(tmp_path) == ["a.bin"]
    asked = len(mirror.asked)
    # nothing is fetched twice
    fetch.download(tmp_path / "a.bin", md5(DATA), [u + "a.bin" for u in mirror.at(*kinds)])
    assert len(mirror.asked) == asked


def test_what_has_arrived_is_not_fetched_again(mirror, tmp_path):
    mirror.files["a.bin"] = DATA
    fetch.download(tmp_path / "a.bin", md5(DATA), [u + "a.bin" for u in mirror.at("torn", "right")])
    assert mirror.asked == [("torn", None), ("right", "bytes=30000-")]


def test_a_beginning_from_a_liar_is_thrown_away(mirror, tmp_path):
    mirror.files["a.bin"] = DATA
    (tmp_path / "a.bin.part").write_bytes(b"?" * 1000)
    fetch.download(tmp_path / "a.bin", md5(DATA), [u + "a.bin" for u in mirror.at("right")])
    assert (tmp_path / "a.bin").read_bytes() == DATA and [r for _, r in mirror.asked] == [
        "bytes=1000-",
        None,
    ]


@pytest.mark.parametrize("part", [DATA, DATA + b"more", b"x" * len(DATA)])
def test_a_part_that_is_complete_or_too_long(part, mirror, tmp_path):
    mirror.files["a.bin"] = DATA
    (tmp_path / "a.bin.part").write_bytes(part)
    fetch.download(tmp_path / "a.bin", md5(DATA), [u + "a.bin" for u in mirror.at("right")])
    assert (tmp_path / "a.bin").read_bytes() == DATA and left(tmp_path) == ["a.bin"]


def test_every_failure_is_told(mirror, tmp_path):
    mirror.files["a.bin"] = DATA
    kinds = ("missing", "fails", "wrong", "torn", "hangs", "elsewhere")
    urls = [
        u.replace("127.0.0.1", "localhost" if i % 2 else "127.0.0.1") + "a.bin"
        for i, u in enumerate(mirror.at(*kinds))
    ] + ["http://example.org/a.bin", "https://127.0.0.1:9/a.bin"]
    with pytest.raises(ConnectionError) as e:
        fetch.download(tmp_path / "a.bin", md5(DATA), urls)
    text = str(e.value)
    for words in (
        "404",
        "500",
        "md5 is not the published one",
        "broke off",
        "timed out",
        "http://example.org/x is not https",
        "http://example.org/a.bin is not https",
        "127.0.0.1:9",
    ):
        assert words in text, text
    assert "\n" not in text and not (tmp_path / "a.bin").exists()


def test_a_damaged_file_is_replaced_only_by_a_whole_one(mirror, tmp_path):
    mirror.files["a.bin"] = DATA
    (tmp_path / "a.bin").write_bytes(b"old")
    with pytest.raises(ConnectionError):
        fetch.download(tmp_path / "a.bin", md5(DATA), [u + "a.bin" for u in mirror.at("wrong")])
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    fetch.download(tmp_path / "a.bin", md5(DATA), [u + "a.bin" for u in mirror.at("right")])
    assert (tmp_path / "a.bin").read_bytes() == DATA


def test_a_full_disk_is_no_fault_of_the_host(mirror, tmp_path, monkeypatch):
    import errno

    mirror.files["a.bin"] = DATA

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fetch, "_pull", full)
    with pytest.raises(OSError, match="a.bin.part could not be written .No space left") as e:
        fetch.download(
            tmp_path / "a.bin", md5(DATA), [u + "a.bin" for u in mirror.at("right", "right")]
        )
    assert not isinstance(e.value, ConnectionError)


# ---- sets in their official formats


def cifar10(m, monkeypatch, n=60):
    "A tiny cifar-10-python.tar.gz on the server"
    x, packed = np.random.default_rng(1).integers(0, 256, (n, 3072), dtype=np.uint8), io.BytesIO()
    parts = {
        "data_batch_1": {"data": x, "labels": [k % 10 for k in range(n)]},
        "test_batch": {"data": x[:30], "labels": [k % 10 for k in range(30)]},
        "batches.meta": {"label_names": [f"class {k}" for k in range(10)]},
    }
    raw = {k: pickle.dumps(v, protocol=2) for k, v in parts.items()}
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for k, v in raw.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{k}")
            info.size = len(v)
            tar.addfile(info, io.BytesIO(v))
    m.files["cifar-10-python.tar.gz"] = packed.getvalue()
    for k, v in dict(
        tgz_md5=md5(packed.getvalue()),
        train_list=[["data_batch_1", md5(raw["data_batch_1"])]],
        test_list=[["test_batch", md5(raw["test_batch"])]],
        meta={"filename": "batches.meta", "key": "label_names", "md5": md5(raw["batches.meta"])},
    ).items():
        monkeypatch.setattr(datasets.CIFAR10, k, v)
    return x


def mnist(m, monkeypatch):
    resources = []
    for part, n in (("train", 60), ("t10k", 30)):
        x, y = (
            np.random.default_rng(n).integers(0, 256, (n, 28, 28), dtype=np.uint8),
            np.arange(n) % 10,
        )
        for name, data in (
            (f"{part}-images-idx3-ubyte.gz", struct.pack(">IIII", 2051, n, 28, 28) + x.tobytes()),
            (
                f"{part}-labels-idx1-ubyte.gz",
                struct.pack(">II", 2049, n) + y.astype(np.uint8).tobytes(),
            ),
        ):
            m.files[name] = gzip.compress(data)
            resources.append((name, md5(m.files[name])))
    monkeypatch.setattr(datasets.MNIST, "resources", resources)


@pytest.mark.parametrize("name,make", [("cifar10", cifar10), ("mnist", mnist)])
def test_a_set_is_fetched_and_mended(name, make, mirror, tmp_path, monkeypatch, capsys):
    make(mirror, monkeypatch)
    monkeypatch.setitem(fetch.MIRRORS, name, mirror.at("fails", "wrong", "torn", "right"))
    monkeypatch.setenv("SPAT_NB_DATA", str(tmp_path))
    assert main(["data", name]) == 0, capsys.readouterr().err
    assert "60 training and 30 test images" in capsys.readouterr().out
    # nothing is left lying about
    assert not [
        p for p in tmp_path.rglob("*") if p.suffix in (".gz", ".part", ".lock") or p.name[0] == "."
    ]
    # all is there
    asked = len(mirror.asked)
    get_data(name, device="cpu", download=True)
    assert len(mirror.asked) == asked
    file = tmp_path / (
        "cifar-10-batches-py/test_batch"
        if name == "cifar10"
        else "MNIST/raw/train-images-idx3-ubyte"
    )
    whole = file.read_bytes()
    file.write_bytes(whole[:-7])
    with pytest.raises(ValueError, match="incomplete or damaged"):
        get_data(name, device="cpu")
    assert get_data(name, device="cpu", download=True).test.n == 30 and file.read_bytes() == whole


def test_no_mirror_gives_it(mirror, tmp_path, monkeypatch, capsys):
    cifar10(mirror, monkeypatch)
    monkeypatch.setitem(fetch.MIRRORS, "cifar10", mirror.at("missing", "wrong"))
    monkeypatch.setenv("SPAT_NB_DATA", str(tmp_path))
    assert main(["data", "cifar10"]) == 1
    err = capsys.readouterr().err
    assert (
        "404" in err
        and "md5" in err
        and "spat_nb data cifar10" in err
        and "what has arrived is kept" in err
        and err.count("\n") == 1
    )
    assert not (tmp_path / "cifar-10-batches-py").exists()


def test_a_forged_archive_is_not_unpacked(mirror, tmp_path, monkeypatch):
    cifar10(mirror, monkeypatch)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        info = tarfile.TarInfo("../pwned")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    mirror.files["cifar-10-python.tar.gz"] = packed.getvalue()
    with pytest.raises(ConnectionError, match="md5"):
        fetch.fetch("cifar10", tmp_path / "data", mirror.at("right"))
    assert not (tmp_path / "pwned").exists() and left(tmp_path / "data") == []


def test_two_at_once(mirror, tmp_path, monkeypatch):
    "Two processes fetch the same file: one of them does it"
    mirror.files["a.bin"] = DATA
    code = (
        "import sys; from spat_nb.data import fetch; fetch.LOOK = 9; fetch.download(sys.argv[1],"
        f" {md5(DATA)!r}, [sys.argv[2]])"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "a.bin"), mirror.at("slow")[0] + "a.bin"],
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    assert [p.wait() for p in both] == [0, 0], [p.stderr.read() for p in both]
    assert (tmp_path / "a.bin").read_bytes() == DATA and len(mirror.asked) == 1


def test_all_mirrors_are_https_and_all_sets_have_one():
    from spat_nb.data.sources import SOURCES

    assert {*fetch.MIRRORS} == {k for k, s in SOURCES.items() if s.place}
    for name, urls in fetch.MIRRORS.items():
        assert all(u.startswith("https://") and u.endswith("/") for u in urls) and len(
            {*urls}
        ) == len(urls)
        for file, digest, _ in fetch.files(name):
            assert len(digest) == 32 and not Path(file).is_absolute()
