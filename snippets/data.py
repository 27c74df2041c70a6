"""Load the book's data sets whole, as tensors: bundled digits by default, real sets on demand.

Real sets are looked for below the folder that the environment variable DATA_DIR names (default
`~/.cache/runnable-notes`) and downloaded there otherwise, once, with a checksum.
"""

# --8<-- [start:imports]
import gzip
import hashlib
import os
import shutil
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from torch import Tensor

# --8<-- [end:imports]


# --8<-- [start:digits]
def load_digits(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return scikit-learn's bundled 8x8 digits, split at random: 1437 to train, 360 to test.

    Returns:
        X_train (1437, 64), y_train (1437,), X_test (360, 64), y_test (360,); pixels in [0, 1].
    """
    from sklearn import datasets  # here, so that the other sets do without scikit-learn

    bundle = datasets.load_digits()
    X = torch.tensor(bundle.data, dtype=torch.float32) / 16
    y = torch.tensor(bundle.target)  # int64
    order = torch.randperm(len(X), generator=torch.Generator().manual_seed(seed))
    train, test = order[:1437], order[1437:]
    return X[train], y[train], X[test], y[test]


# --8<-- [end:digits]


# --8<-- [start:batches]
def batches(
    X: Tensor, y: Tensor, size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one epoch of shuffled mini-batches (size, ...) from tensors held in memory."""
    order = torch.randperm(len(X), generator=generator)
    for start in range(0, len(X), size):
        index = order[start : start + size]
        yield X[index], y[index]


# --8<-- [end:batches]


# --8<-- [start:source]
class DataError(RuntimeError):
    """A data set is neither on disk nor to be had; the message says what to do."""


@dataclass(frozen=True)
class Source:
    """One file of a data set: where it goes, how to recognise it, where to get it.

    Attributes:
        path: the file below the data folder.
        digest: "md5:<hex>" or "sha256:<hex>" of the file.
        urls: the original and its mirrors, tried in order.
        member: the file's name inside the archive, if the URLs lead to a zip archive.
    """

    path: str
    digest: str
    urls: tuple[str, ...]
    member: str | None = None


def data_dir() -> Path:
    """Return the folder of the real data sets: DATA_DIR, or one in the user's cache."""
    return Path(os.environ.get("DATA_DIR") or "~/.cache/runnable-notes").expanduser()


# --8<-- [end:source]


# --8<-- [start:download]
def download(url: str, part: Path, timeout: float = 30.0) -> None:
    """Download to a `.part` file, going on where an earlier attempt stopped.

    Raises:
        OSError: the server cannot be reached, refuses or breaks off; what came stays in `part`.
    """
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to send
            return
        raise
    with response, part.open("ab" if response.status == 206 else "wb") as file:  # (1)!
        before = file.tell()
        shutil.copyfileobj(response, file, 1 << 16)
        missing = int(response.headers.get("Content-Length", 0)) - (file.tell() - before)
    if missing > 0:  # (2)!
        raise OSError(f"the server broke off, {missing} bytes are missing")


# --8<-- [end:download]


# --8<-- [start:check]
def is_whole(file: Path, digest: str) -> bool:
    """Say whether a file exists and has the digest: half a file has not."""
    algorithm, _, expected = digest.partition(":")
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest() == expected


def unpack(part: Path, member: str | None) -> Path:
    """Return what was downloaded: the part itself, or the member of an archive, beside it."""
    if member is None:
        return part
    unpacked = part.with_suffix(".unpacked.part")
    try:
        with zipfile.ZipFile(part) as archive:
            unpacked.write_bytes(archive.read(member))
    except (zipfile.BadZipFile, zlib.error, KeyError):
        unpacked.write_bytes(b"")  # fails the checksum
    return unpacked


# --8<-- [end:check]


# --8<-- [start:obtain]
def obtain(url: str, part: Path, source: Source) -> Path:
    """Return a whole copy of a source's file, from one URL, not yet in its place.

    Raises:
        OSError: the download failed, or what came has another checksum.
    """
    for _ in range(2):
        resumed = part.exists()
        download(url, part)
        copy = unpack(part, source.member)
        if is_whole(copy, source.digest):
            return copy
        copy.unlink()
        part.unlink(missing_ok=True)
        if not resumed:  # (1)!
            break
    raise OSError("wrong checksum")


# --8<-- [end:obtain]


# --8<-- [start:fetch]
def fetch(source: Source) -> Path:
    """Return the path of a data file, downloading it if it is missing or damaged.

    Raises:
        DataError: no URL gave the file; it names each URL, what went wrong there, and a way out.
    """
    file = data_dir() / source.path
    complaints = []
    try:
        if is_whole(file, source.digest):
            return file
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_name(f".{file.name}.lock")):  # (1)!
            if is_whole(file, source.digest):
                return file
            for number, url in enumerate(source.urls):
                part = file.with_name(f"{file.name}.{number}.part")
                try:
                    os.replace(obtain(url, part, source), file)  # (2)!
                    part.unlink(missing_ok=True)
                    return file
                except (OSError, HTTPException) as error:
                    complaints.append(f"  {url}: {error}")
    except OSError as error:
        complaints.append(f"  {error}")
    state = "damaged" if file.exists() else "missing"
    advice = f"Run again to resume, put the file at {file}, or point DATA_DIR to a folder with it."
    raise DataError("\n".join([f"{source.path} is {state}; tried:", *complaints, advice]))


# --8<-- [end:fetch]


# --8<-- [start:idx]
def read_idx(file: Path) -> Tensor:
    """Read a gzipped IDX file of bytes, the format of MNIST, into a uint8 tensor.

    Raises:
        ValueError: the file holds something else.
    """
    with gzip.open(file) as stream:
        content = stream.read()
    if content[:3] != b"\x00\x00\x08":  # two zeros, then the type: 8 is uint8
        raise ValueError(f"{file} is not an IDX file of bytes")
    dimensions = content[3]
    shape = np.frombuffer(content, ">i4", dimensions, offset=4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    return torch.from_numpy(values.reshape(shape).copy())


def load_idx_set(
    folder: str, digests: dict[str, str], mirrors: tuple[str, ...]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Load the four files of MNIST or of a set in its format; pixels become [0, 1]."""
    files = []
    for name, digest in digests.items():
        urls = tuple(mirror + name for mirror in mirrors)
        files.append(fetch(Source(f"{folder}/raw/{name}", f"md5:{digest}", urls)))
    X_train, y_train, X_test, y_test = map(read_idx, files)
    return X_train / 255, y_train.long(), X_test / 255, y_test.long()


# --8<-- [end:idx]


# --8<-- [start:fashion_mnist]
def load_fashion_mnist() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): images in [0, 1] and labels 0-9.

    Returns:
        X_train (60000, 28, 28), y_train (60000,), X_test (10000, 28, 28), y_test (10000,).

    Raises:
        DataError: a file is neither in the data folder nor to be downloaded.
    """
    digests = {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    }
    mirrors = (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    )
    return load_idx_set("FashionMNIST", digests, mirrors)


# --8<-- [end:fashion_mnist]


# --8<-- [start:mnist]
def load_mnist() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return MNIST (LeCun, Cortes, Burges): the shapes of `load_fashion_mnist`."""
    digests = {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    }
    mirrors = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    return load_idx_set("MNIST", digests, mirrors)


# --8<-- [end:mnist]


# --8<-- [start:bike_sharing]
def load_bike_sharing() -> pd.DataFrame:
    """Return the UCI Bike Sharing hours (Fanaee-T and Gama 2013): 17379 rows, 17 columns."""
    source = Source(
        "bike-sharing/hour.csv",
        "sha256:e03de4ee4ef4dc376ac6e04bf829673c6269e8eba5c60fa121640fa2f829504f",
        (
            "https://archive.ics.uci.edu/static/public/275/bike+sharing+dataset.zip",
            "https://archive.ics.uci.edu/ml/machine-learning-databases/00275/"
            "Bike-Sharing-Dataset.zip",
        ),
        member="hour.csv",
    )
    return pd.read_csv(fetch(source))


# --8<-- [end:bike_sharing]
