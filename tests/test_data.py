"""The data loaders: whole sets, and downloads that break, resume, collide or lie."""

import gzip
import hashlib
import io
import multiprocessing
import os
import signal
import struct
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from snippets import data

CONTENT = bytes(range(256)) * 400  # 102,400 bytes
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()

forks = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="needs os.fork"
)


class Server(ThreadingHTTPServer):
    """Serves `files`; breaks off where `breaks` says, once; holds back where `holds` says.

    Attributes:
        ranges: whether Range requests are honoured.
        log: (path, Range header, status) of every request.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.ranges = files, True
        self.breaks: dict[str, int] = {}
        self.holds: dict[str, int] = {}
        self.log: list[tuple[str, str | None, int]] = []
        self.held, self.released = threading.Event(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """A client that went away is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        pass

    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        body, status, start = server.files.get(self.path), 200, 0
        if body is None:
            body, status = b"<h1>nothing here</h1>", 404
        elif wanted and server.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            status = 206 if start < len(body) else 416
            body = body[start:]
        server.log.append((self.path, wanted, status))
        self.send_response(status)
        if status == 206:
            end = start + len(body) - 1
            self.send_header("Content-Range", f"bytes {start}-{end}/{start + len(body)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path in server.breaks:
            self.wfile.write(body[: server.breaks.pop(self.path)])
            self.close_connection = True
        elif self.path in server.holds:
            self.wfile.write(body[: server.holds.pop(self.path)])
            self.wfile.flush()
            server.held.set()
            server.released.wait(20)
            self.close_connection = True
        else:
            self.wfile.write(body)


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server with the file at /good, and an empty data folder."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server({"/good": CONTENT, "/bad": b"an error page with status 200"})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


def source(server, *paths, digest=DIGEST, member=None):
    return data.Source("set/file.bin", digest, tuple(server.url + p for p in paths), member)


def files_in(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock")


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


# Downloads


def test_downloads_once_and_leaves_nothing_else(server):
    wanted = source(server, "/good")
    file = data.fetch(wanted)
    assert file == data.data_dir() / "set" / "file.bin"
    assert file.read_bytes() == CONTENT
    assert data.fetch(wanted) == file
    assert server.log == [("/good", None, 200)]
    assert files_in(data.data_dir()) == ["file.bin"]


def test_break_off_is_noticed_kept_and_resumed(server):
    server.breaks["/good"] = 60_000
    with pytest.raises(data.DataError, match="broke off, 42400 bytes are missing"):
        data.fetch(source(server, "/good"))
    assert files_in(data.data_dir()) == ["file.bin.0.part"]  # the half has not the file's name
    assert data.fetch(source(server, "/good")).read_bytes() == CONTENT
    assert server.log == [("/good", None, 200), ("/good", "bytes=60000-", 206)]
    assert files_in(data.data_dir()) == ["file.bin"]


def test_server_without_ranges_starts_over(server):
    server.breaks["/good"], server.ranges = 60_000, False
    with pytest.raises(data.DataError):
        data.fetch(source(server, "/good"))
    assert data.fetch(source(server, "/good")).read_bytes() == CONTENT
    assert [status for *_, status in server.log] == [200, 200]  # no third attempt was needed


def test_complete_part_is_used_without_another_byte(server):
    folder = data.data_dir() / "set"
    folder.mkdir(parents=True)
    (folder / "file.bin.0.part").write_bytes(CONTENT)
    assert data.fetch(source(server, "/good")).read_bytes() == CONTENT
    assert server.log == [("/good", f"bytes={len(CONTENT)}-", 416)]


@pytest.mark.parametrize("junk", [b"x" * 1000, b"x" * (len(CONTENT) + 7)])
def test_wrong_part_is_thrown_away_and_fetched_anew(server, junk):
    folder = data.data_dir() / "set"
    folder.mkdir(parents=True)
    (folder / "file.bin.0.part").write_bytes(junk)
    assert data.fetch(source(server, "/good")).read_bytes() == CONTENT
    assert [wanted for _, wanted, _ in server.log] == [f"bytes={len(junk)}-", None]
    assert files_in(folder) == ["file.bin"]


def test_broken_off_first_mirror_is_taken_over_by_the_second(server):
    server.breaks["/good"] = 10
    server.files["/mirror"] = CONTENT
    assert data.fetch(source(server, "/good", "/mirror")).read_bytes() == CONTENT


def test_missing_on_the_first_mirror(server):
    assert data.fetch(source(server, "/nothing", "/good")).read_bytes() == CONTENT
    assert [status for *_, status in server.log] == [404, 200]
    assert files_in(data.data_dir()) == ["file.bin"]


def test_wrong_content_is_refused_and_the_next_mirror_asked(server):
    assert data.fetch(source(server, "/bad", "/good")).read_bytes() == CONTENT
    assert [path for path, *_ in server.log] == ["/bad", "/good"]


def test_wrong_content_everywhere_leaves_no_file(server):
    with pytest.raises(data.DataError, match="wrong checksum") as caught:
        data.fetch(source(server, "/bad", "/nothing"))
    message = str(caught.value)
    assert server.url + "/bad: wrong checksum" in message
    assert "404" in message
    assert str(data.data_dir() / "set" / "file.bin") in message
    assert "DATA_DIR" in message
    assert files_in(data.data_dir()) == []


def test_md5_digest(server):
    wanted = source(server, "/good", digest="md5:" + hashlib.md5(CONTENT).hexdigest())
    assert data.fetch(wanted).read_bytes() == CONTENT


# A damaged file, no network, no permission


def test_damaged_file_in_place_is_replaced(server):
    file = data.data_dir() / "set" / "file.bin"
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT[:-1])
    assert data.fetch(source(server, "/good")).read_bytes() == CONTENT


def test_offline_says_what_to_do(server):
    gone = Server({})  # bound to a port, never listening to a request
    gone.server_close()
    file = data.data_dir() / "set" / "file.bin"
    with pytest.raises(data.DataError) as caught:
        data.fetch(source(gone, "/good"))
    message = str(caught.value)
    assert message.startswith("set/file.bin is missing; tried:\n  http://127.0.0.1")
    assert str(file) in message and "DATA_DIR" in message
    assert not isinstance(caught.value, OSError)


def test_offline_with_a_damaged_file_keeps_it_and_says_damaged(server):
    file = data.data_dir() / "set" / "file.bin"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half")
    with pytest.raises(data.DataError, match="is damaged; tried"):
        data.fetch(source(server, "/nothing"))
    assert file.read_bytes() == b"half"


def test_whole_file_needs_neither_network_nor_write_permission(server):
    file = data.data_dir() / "set" / "file.bin"
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    assert data.fetch(source(server)) == file
    assert [p.name for p in file.parent.iterdir()] == ["file.bin"]  # not even a lock


def test_folder_that_cannot_be_made(server, monkeypatch, tmp_path):
    (tmp_path / "occupied").write_text("a file where the folder should be")
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "occupied"))
    with pytest.raises(data.DataError, match="occupied"):
        data.fetch(source(server, "/good"))
    assert server.log == []


def test_data_dir(monkeypatch):
    monkeypatch.setenv("DATA_DIR", "~/sets")
    assert data.data_dir() == data.Path.home() / "sets"
    for unset in ("", None):
        if unset is None:
            monkeypatch.delenv("DATA_DIR")
        else:
            monkeypatch.setenv("DATA_DIR", unset)
        assert data.data_dir() == data.Path.home() / ".cache" / "runnable-notes"


# Archives


def test_zip_member(server):
    server.files["/zip"] = zipped(readme=b"no", wanted=CONTENT)
    file = data.fetch(source(server, "/zip", member="wanted"))
    assert file.read_bytes() == CONTENT
    assert files_in(data.data_dir()) == ["file.bin"]


def test_broken_off_zip_is_resumed(server):
    server.files["/zip"] = whole = zipped(wanted=CONTENT)
    server.breaks["/zip"] = len(whole) // 2
    with pytest.raises(data.DataError, match="broke off"):
        data.fetch(source(server, "/zip", member="wanted"))
    assert data.fetch(source(server, "/zip", member="wanted")).read_bytes() == CONTENT
    assert server.log[1] == ("/zip", f"bytes={len(whole) // 2}-", 206)


@pytest.mark.parametrize("archive", [b"not a zip", zipped(other=CONTENT), zipped(wanted=b"old")])
def test_zip_with_something_else(server, archive):
    server.files |= {"/zip": archive, "/second": zipped(wanted=CONTENT)}
    assert data.fetch(source(server, "/zip", "/second", member="wanted")).read_bytes() == CONTENT
    assert files_in(data.data_dir()) == ["file.bin"]
    with pytest.raises(data.DataError, match="wrong checksum"):
        data.fetch(data.Source("other.bin", DIGEST, (server.url + "/zip",), "wanted"))
    assert files_in(data.data_dir()) == ["file.bin"]


# Several processes


@forks
def test_two_processes_at_once_download_once(server):
    server.holds["/good"] = 1000  # the first one is kept in the middle of its download
    context = multiprocessing.get_context("fork")
    wanted = source(server, "/good")
    first = context.Process(target=data.fetch, args=(wanted,))
    first.start()
    assert server.held.wait(20)
    results = context.Queue()
    second = context.Process(target=lambda: results.put(data.fetch(wanted).read_bytes()))
    second.start()
    server.released.set()  # breaks off: the first fails, the second goes on where it stopped
    assert results.get(timeout=20) == CONTENT
    first.join(20)
    second.join(20)
    assert [first.exitcode, second.exitcode] == [1, 0]
    assert server.log == [("/good", None, 200), ("/good", "bytes=1000-", 206)]


@forks
def test_the_process_that_waited_takes_the_file_of_the_other(server):
    context = multiprocessing.get_context("fork")
    wanted = source(server, "/good")
    processes = [context.Process(target=data.fetch, args=(wanted,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(20)
    assert [process.exitcode for process in processes] == [0] * 4
    assert server.log == [("/good", None, 200)]
    assert files_in(data.data_dir()) == ["file.bin"]


@forks
def test_killed_download_is_resumed(server):
    server.holds["/good"] = 70_000
    process = multiprocessing.get_context("fork").Process(
        target=data.fetch, args=(source(server, "/good"),)
    )
    process.start()
    assert server.held.wait(20)
    part = data.data_dir() / "set" / "file.bin.0.part"
    while process.is_alive() and not (part.exists() and part.stat().st_size):
        pass  # until the first block is on disk
    os.kill(process.pid, signal.SIGKILL)
    process.join(20)
    arrived = part.stat().st_size
    assert 0 < arrived <= 70_000
    assert data.fetch(source(server, "/good")).read_bytes() == CONTENT
    assert server.log[1] == ("/good", f"bytes={arrived}-", 206)


# The sets


def idx(values: torch.Tensor, kind: int = 8) -> bytes:
    header = struct.pack(f">BBBB{values.ndim}i", 0, 0, kind, values.ndim, *values.shape)
    return gzip.compress(header + bytes(values.flatten().tolist()))


def test_read_idx(tmp_path):
    values = torch.randint(256, (5, 3, 2), dtype=torch.uint8)
    (tmp_path / "x.gz").write_bytes(idx(values))
    read = data.read_idx(tmp_path / "x.gz")
    assert read.dtype == torch.uint8 and torch.equal(read, values)
    (tmp_path / "x.gz").write_bytes(idx(values, kind=13))  # 13 is float32
    with pytest.raises(ValueError, match="not an IDX file"):
        data.read_idx(tmp_path / "x.gz")


def test_idx_set_over_the_network(server):
    parts = {
        "a": torch.tensor([[[0, 51]], [[102, 255]]], dtype=torch.uint8),  # (2, 1, 2)
        "b": torch.tensor([3, 9], dtype=torch.uint8),
        "c": torch.tensor([[[255, 0]]], dtype=torch.uint8),
        "d": torch.tensor([7], dtype=torch.uint8),
    }
    packed = {name: idx(values) for name, values in parts.items()}
    server.files |= {f"/sets/{name}": content for name, content in packed.items()}
    digests = {name: hashlib.md5(content).hexdigest() for name, content in packed.items()}
    mirrors = (server.url + "/gone/", server.url + "/sets/")
    X_train, y_train, X_test, y_test = data.load_idx_set("Tiny", digests, mirrors)
    assert torch.equal(X_train, torch.tensor([[[0.0, 0.2]], [[0.4, 1.0]]]))
    assert X_test.dtype == torch.float32 and y_test.dtype == torch.int64
    assert y_train.tolist() == [3, 9] and y_test.tolist() == [7]
    assert (data.data_dir() / "Tiny" / "raw" / "a").is_file()


def test_digits_are_bundled_and_split_by_seed():
    X, y, X_test, y_test = data.load_digits(0)
    assert X.shape == (1437, 64) and X_test.shape == (360, 64)
    assert X.dtype == torch.float32 and y.dtype == torch.int64
    assert X.min() == 0 and X.max() == 1
    assert y.bincount().min() > 100 and y_test.unique().tolist() == list(range(10))
    together = torch.cat([X, X_test]).sort(0)[0]
    other = data.load_digits(1)
    assert torch.equal(together, torch.cat([other[0], other[2]]).sort(0)[0])  # the same 1797
    assert not torch.equal(X_test, other[2])  # split differently
    assert torch.equal(data.load_digits(0)[2], X_test)


def real(*names: str):
    """Skip unless DATA_DIR holds the files; never download in a test."""
    missing = [n for n in names if not (data.data_dir() / n).is_file()]
    if missing:
        pytest.skip(f"DATA_DIR ({data.data_dir()}) has no {missing[0]}")


@pytest.mark.parametrize("folder", ["FashionMNIST", "MNIST"])
def test_real_image_sets(folder):
    real(f"{folder}/raw/train-images-idx3-ubyte.gz", f"{folder}/raw/t10k-labels-idx1-ubyte.gz")
    load = {"FashionMNIST": data.load_fashion_mnist, "MNIST": data.load_mnist}[folder]
    X_train, y_train, X_test, y_test = load()
    assert X_train.shape == (60_000, 28, 28) and X_test.shape == (10_000, 28, 28)
    assert X_train.dtype == torch.float32 and y_train.dtype == torch.int64
    assert X_train.min() == 0 and X_train.max() == 1
    # The published mean pixel of either training set: 0.2860 and 0.1307.
    assert X_train.mean().item() == pytest.approx(
        {"FashionMNIST": 0.2860, "MNIST": 0.1307}[folder], abs=5e-5
    )
    if folder == "FashionMNIST":
        assert y_train.bincount().tolist() == [6000] * 10
        assert y_test.bincount().tolist() == [1000] * 10
    else:
        assert y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


def test_real_bike_sharing():
    real("bike-sharing/hour.csv")
    frame = data.load_bike_sharing()
    assert frame.shape == (17_379, 17)
    assert frame["cnt"].sum() == 3_292_679  # all rentals of 2011 and 2012
    assert (frame["cnt"] == frame["casual"] + frame["registered"]).all()


# Batches


@pytest.mark.parametrize(("n", "size"), [(105, 10), (100, 10), (3, 8), (1, 1)])
def test_batches_cover_every_sample_once(n, size):
    X, y = torch.arange(2 * n).reshape(n, 2), torch.arange(n)
    got = list(data.batches(X, y, size, torch.Generator().manual_seed(0)))
    assert len(got) == -(-n // size)
    assert [len(b) for _, b in got[:-1]] == [size] * (len(got) - 1)
    assert torch.cat([b for _, b in got]).sort()[0].tolist() == list(range(n))
    assert all(torch.equal(a, X[b]) for a, b in got)  # rows and labels stay together


def test_batches_differ_from_epoch_to_epoch_and_repeat_with_the_seed():
    X = y = torch.arange(50)
    g = torch.Generator().manual_seed(3)
    first, second = (torch.cat([b for _, b in data.batches(X, y, 7, g)]) for _ in range(2))
    again = torch.cat([b for _, b in data.batches(X, y, 7, torch.Generator().manual_seed(3))])
    assert not torch.equal(first, second)
    assert torch.equal(first, again)
