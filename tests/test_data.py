"""Data sets in their official formats, on tiny files that the tests write, and on real ones where
the data folder has them
"""

import hashlib
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spat_nb.core.settings import settings
from spat_nb.data import streams
from spat_nb.data.batches import Batches
from spat_nb.data.draws import crop_flip, pick, rng
from spat_nb.data.sources import Data, get_data
from spat_nb.data.streams import resized_crop
from spat_nb.data.vision import torchvision

torch.set_num_threads(1)
datasets = torchvision("datasets")


def bytes_(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def dump(path, obj):
    path.write_bytes(pickle.dumps(obj, protocol=2))
    return [path.name, md5(path)]


def same(a, b):
    return len(a) == len(b) and all(
        torch.equal(p, q) and torch.equal(r, s) for (p, r), (q, s) in zip(a, b)
    )


def images(p):
    return sorted(bytes(v.flatten().tolist()) for v in p.x)


# ---- the official formats, tiny. Each maker writes them under `root`, lets torchvision's checksums
# be theirs, and returns the true (x, y) of train and test


def cifar(kind, folder, key, names_key, classes):
    def make(root, monkeypatch):
        base = root / folder
        base.mkdir(parents=True)
        parts = [(bytes_((n, 3, 32, 32), n), np.arange(n) % classes) for n in (60, 30)]
        train, test = (
            dump(base / f, {"data": x.reshape(n, -1), key: y.tolist()})
            for f, n, (x, y) in zip(("train", "test"), (60, 30), parts)
        )
        meta = dump(base / "meta", {names_key: [f"class {k}" for k in range(classes)]})
        cls = getattr(datasets, kind)
        monkeypatch.setattr(cls, "train_list", [train])
        monkeypatch.setattr(cls, "test_list", [test])
        monkeypatch.setattr(cls, "meta", {"filename": "meta", "key": names_key, "md5": meta[1]})
        return parts

    return make


def svhn(root, monkeypatch):
    from scipy.io import savemat

    root.mkdir(parents=True, exist_ok=True)
    parts, lists = [], {}
    for part, n in (("train", 60), ("test", 30)):
        x, y = bytes_((n, 3, 32, 32), n), np.arange(n) % 10
        # (h,w,ch,n); a zero is labelled 10
        savemat(
            root / f"{part}_32x32.mat",
            {"X": x.transpose(2, 3, 1, 0), "y": np.where(y == 0, 10, y)[:, None].astype(np.uint8)},
        )
        lists[part] = ["", f"{part}_32x32.mat", md5(root / f"{part}_32x32.mat")]
        parts.append((x, y))
    monkeypatch.setattr(datasets.SVHN, "split_list", lists)
    return parts


def stl10(root, monkeypatch):
    base = root / "stl10_binary"
    base.mkdir(parents=True)
    parts, lists = [], {}
    for part, n in (("train", 60), ("test", 30)):
        x, y = bytes_((n, 3, 96, 96), n), np.arange(n) % 10
        # column by column
        (base / f"{part}_X.bin").write_bytes(x.transpose(0, 1, 3, 2).tobytes())
        # from 1
        (base / f"{part}_y.bin").write_bytes((y + 1).astype(np.uint8).tobytes())
        lists[part] = [[f"{part}_{v}.bin", md5(base / f"{part}_{v}.bin")] for v in "Xy"]
        parts.append((x, y))
    (base / "class_names.txt").write_text("\n".join(f"class {k}" for k in range(10)))
    monkeypatch.setattr(datasets.STL10, "train_list", lists["train"])
    monkeypatch.setattr(datasets.STL10, "test_list", lists["test"])
    return parts


def mnist(root, monkeypatch):
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    parts = []
    for part, n in (("train", 60), ("t10k", 30)):
        x, y = bytes_((n, 1, 28, 28), n), np.arange(n) % 10
        (raw / f"{part}-images-idx3-ubyte").write_bytes(
            struct.pack(">IIII", 2051, n, 28, 28) + x.tobytes()
        )
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">II", 2049, n) + y.astype(np.uint8).tobytes()
        )
        parts.append((x, y))
    return parts


MAKERS = dict(
    cifar10=cifar("CIFAR10", "cifar-10-batches-py", "labels", "label_names", 10),
    cifar100=cifar("CIFAR100", "cifar-100-python", "fine_labels", "fine_label_names", 20),
    svhn=svhn,
    stl10=stl10,
    mnist=mnist,
)
DAMAGE = dict(
    cifar10="cifar-10-batches-py/test",
    cifar100="cifar-100-python/train",
    svhn="train_32x32.mat",
    stl10="stl10_binary/train_y.bin",
    mnist="MNIST/raw/train-images-idx3-ubyte",
)


@pytest.mark.parametrize("name", MAKERS)
def test_official_format(name, tmp_path, monkeypatch):
    "Every image and label arrives, the right way up and round, and no image is in two parts"
    (x, y), (xt, yt) = MAKERS[name](tmp_path, monkeypatch)
    d = get_data(name, device="cpu", root=tmp_path, batch_size=16)
    # a fifth at most is held out
    assert isinstance(d, Data) and [p.n for p in d] == [48, 12, 30]
    # row, column and channel in their places
    assert np.array_equal(d.test.x.numpy(), xt) and np.array_equal(d.test.y.numpy(), yt)

    def pairs(x, y):
        return sorted(zip((bytes(v.flatten().tolist()) for v in x), map(int, y)))

    assert sorted(pairs(d.train.x, d.train.y) + pairs(d.valid.x, d.valid.y)) == pairs(x, y)
    assert d.test.shape == x.shape[1:] and d.test.c == len(d.test.classes) == (
        20 if name == "cifar100" else 10
    )
    assert d.test.classes[3] == ("3" if name in ("mnist", "svhn") else "class 3")
    assert d.valid.y.bincount().max() <= 2
    assert d.train.shuffle and not d.test.shuffle and d.test.augment is None
    flips = {"cifar10": True, "cifar100": True, "stl10": True, "svhn": False}
    assert d.train.augment == (
        None if name == "mnist" else crop_flip(12 if name == "stl10" else 4, flips[name])
    )
    whole = list(d.train.epoch(2))
    assert same(whole[1:], list(d.train.epoch(2, 1)))
    assert all(0 <= v.min() and v.max() <= 1 and v.dtype == torch.float32 for v, _ in whole)


@pytest.mark.parametrize("name", MAKERS)
def test_missing_and_damaged(name, tmp_path, monkeypatch):
    "One sentence that names the command and the folder"
    with pytest.raises(FileNotFoundError) as e:
        get_data(name, device="cpu", root=tmp_path / "nowhere")
    for part in (
        f"`spat_nb data {name}`",
        f"get_data('{name}', download=True)",
        str(tmp_path / "nowhere"),
        "SPAT_NB_DATA",
    ):
        assert part in str(e.value)
    MAKERS[name](tmp_path, monkeypatch)
    file = tmp_path / DAMAGE[name]
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(ValueError) as e:
        get_data(name, device="cpu", root=tmp_path)
    for part in (
        f"`spat_nb data {name}`",
        f"get_data('{name}', download=True)",
        str(tmp_path),
        "incomplete or damaged",
    ):
        assert part in str(e.value)
    assert "\n" not in str(e.value)


def test_a_missing_test_part_is_named(tmp_path, monkeypatch):
    svhn(tmp_path, monkeypatch)
    (tmp_path / "test_32x32.mat").unlink()
    with pytest.raises(FileNotFoundError, match="test_32x32.mat is missing"):
        get_data("svhn", device="cpu", root=tmp_path)


def test_a_forged_pickle_is_not_opened(tmp_path, monkeypatch):
    "The one exception to `no pickles`: only files with torchvision's checksum are unpickled"
    MAKERS["cifar100"](tmp_path, monkeypatch)

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "pwned",))

    (tmp_path / "cifar-100-python" / "train").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="damaged"):
        get_data("cifar100", device="cpu", root=tmp_path)
    assert not (tmp_path / "pwned").exists()


# ---- batches


def batches(n=100, **kw):
    x = torch.from_numpy(bytes_((n, 3, 8, 10)))
    return Batches(
        x,
        torch.arange(n) % 7,
        tuple("abcdefg"),
        **{**dict(batch_size=16, shuffle=True, augment=crop_flip(2), seed=3), **kw},
    )


@pytest.mark.parametrize("start", [0, 1, 5, 6, 7])
@pytest.mark.parametrize("n", [1, 96, 97, 100])
def test_resume_is_the_tail_of_the_epoch(n, start):
    b = batches(n)
    torch.manual_seed(0)
    whole = list(b.epoch(4))
    state = torch.get_rng_state()
    torch.rand(17)
    assert same(whole[start:], list(b.epoch(4, start)))
    assert len(whole) == len(b) == -(-n // 16) and sum(len(y) for _, y in whole) == n
    # nothing was drawn from torch's stream
    torch.manual_seed(0)
    assert torch.equal(state, torch.get_rng_state())


def test_seed_epoch_and_batch_matter():
    b = batches()

    def first(b, e=0):
        return next(b.epoch(e))[0]

    assert (
        torch.equal(first(b), first(batches()))
        and not torch.equal(first(b), first(b, 1))
        and not torch.equal(first(b), first(b.with_(seed=4)))
    )
    # another order in each epoch
    assert not torch.equal(torch.cat(b.indices(0)), torch.cat(b.indices(1)))
    still = batches(32, shuffle=False).with_(
        x=torch.from_numpy(np.tile(bytes_((1, 3, 8, 10)), (32, 1, 1, 1)))
    )
    (a, _), (c, _) = still.epoch(0)
    # the same images in two batches: other draws
    assert not torch.equal(a, c)


def test_the_same_in_another_process():
    "Nothing depends on the process, such as Python's salted hash"
    code = """
import hashlib, torch
from spat_nb.data.batches import *
from spat_nb.data.draws import *

x = torch.arange(3000).view(100, 1, 5, 6).byte()
batches = Batches(x, torch.arange(100) % 3, tuple("abc"), 16, True, crop_flip(1), 9)
told = b""
for x, y in batches.epoch(2):
    told += bytes((x * 255).round().byte().flatten().tolist()) + bytes(y.tolist())
print(hashlib.sha1(told).hexdigest())
"""
    outs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": h, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for h in "12"
    ]
    assert len(outs[0]) == 41 and outs[0] == outs[1]


def test_streams_never_change():
    "A new way to make seeds would change every old run: it needs a line in CHANGELOG"
    assert rng(0, 7, 200).initial_seed() == int.from_bytes(
        hashlib.blake2b(b"0/7/200", digest_size=8).digest(), "big"
    )


def test_pick_is_balanced_and_nested():
    g = torch.Generator().manual_seed(0)
    y = torch.multinomial(torch.tensor([0.5, 0.3, 0.15, 0.05]), 400, True, generator=g)
    have = y.bincount()
    for n in (0, 1, 4, 37, 100, 400):
        i = pick(y, n)
        count = y[i].bincount(minlength=4)
        assert len(i) == n == len(i.unique())
        # classes that still have images: as many as the largest, or one less
        open_ = count < have
        assert (count[open_] >= count.max() - 1).all()
        assert set(pick(y, n // 2).tolist()) <= set(i.tolist())


def test_hold_out_and_subset():
    b = batches()
    rest, held = b.hold_out(21, seed=5)
    assert sorted(images(rest) + images(held)) == images(b) and not set(images(rest)) & set(
        images(held)
    )
    assert held.y.bincount().tolist() == [3] * 7
    assert not torch.equal(held.x, b.hold_out(21, seed=6)[1].x)
    sub = b.subset(14)
    assert (
        sub.y.bincount().tolist() == [2] * 7
        and set(images(sub)) < set(images(b))
        and sub.seed == b.seed
    )
    with pytest.raises(ValueError, match="choose between 0 and 99"):
        b.hold_out(100)
    with pytest.raises(ValueError, match="choose between 0 and 100"):
        b.subset(101)


@pytest.mark.parametrize("pad,flip", [(0, True), (1, False), (4, True), (9, False)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_augmentation_against_a_loop(pad, flip, dtype):
    x = torch.rand(20, 3, 7, 9, generator=rng(1)).to(dtype)
    got = crop_flip(pad, flip)(x, rng(2))
    g = rng(2)
    i, j = torch.randint(2 * pad + 1, (2, 20), generator=g).tolist()
    mirror = (torch.rand(20, generator=g) < 0.5).tolist() if flip else [False] * 20
    for k in range(20):
        for r in range(7):
            for c in range(9):
                col = 8 - c if mirror[k] else c
                rr, cc = r + i[k] - pad, col + j[k] - pad
                want = (
                    x[k, :, rr, cc] if 0 <= rr < 7 and 0 <= cc < 9 else torch.zeros(3, dtype=dtype)
                )
                assert torch.equal(got[k, :, r, c], want)
    assert got.dtype == dtype and 0 <= got.min() and got.max() <= 1


# ---- folders


@pytest.fixture
def folder(tmp_path):
    for part, n in (("train", 12), ("val", 6), ("test", 6)):
        for c in ("ant", "bee", "cow"):
            (tmp_path / part / c).mkdir(parents=True)
            for k in range(n // 3):
                # colour, and grey images
                size = (24 + 2 * k, 30, 3) if c != "cow" else (31, 24)
                Image.fromarray(bytes_(size, 100 * n + 10 * k + ord(c[0]))).save(
                    tmp_path / part / c / (f"{k}.png" if k % 2 else f"{k}.jpg")
                )
    return tmp_path


def test_folder_parts(folder):
    import shutil

    def get(root=folder, **kw):
        return get_data("imagefolder", device="cpu", root=root, size=16, batch_size=5, **kw)

    d = get()
    assert [p.n for p in d] == [12, 6, 6] and all("/val/" in f for f in d.valid.files)
    shutil.rmtree(folder / "test")
    d = get()
    assert (
        [p.n for p in d] == [10, 2, 6]
        and all("/val/" in f for f in d.test.files)
        and not set(d.train.files) & set(d.valid.files)
    )
    d = get(valid=6)
    assert d.valid.y.bincount().tolist() == [2, 2, 2]
    shutil.rmtree(folder / "train")
    # only val/: a fifth is the test
    d = get()
    assert [p.n for p in d] == [4, 0, 2]
    # the class folders themselves, another split: the same test
    e = get(folder / "val", split=3)
    assert e.test.files == d.test.files
    assert len(set(d.train.files + d.valid.files + d.test.files)) == 6
    assert d.train.classes == ("ant", "bee", "cow") and d.train.shape == (3, 16, 16)


def test_workers_and_resume_change_nothing(folder):
    d = get_data("imagefolder", device="cpu", root=folder, size=16, batch_size=5)
    assert d.train.augment == resized_crop() and d.test.augment is None
    state = torch.get_rng_state()
    whole = list(d.train.epoch(3))
    for w in (0, 1, 2):
        assert same(whole[1:], list(d.train.with_(workers=w).epoch(3, 1)))
    assert torch.equal(state, torch.get_rng_state())
    assert [tuple(x.shape) for x, _ in whole] == [(5, 3, 16, 16)] * 2 + [(2, 3, 16, 16)]
    assert all(x.dtype == torch.float32 and 0 <= x.min() and x.max() <= 1 for x, _ in whole)
    one, two = (torch.cat([x for x, _ in d.train.with_(shuffle=False).epoch(e)]) for e in (0, 1))
    # each image is cut anew in each epoch
    assert all(not torch.equal(a, b) for a, b in zip(one, two))


def test_memory_equals_stream(folder):
    a, b = (
        get_data("imagefolder", device="cpu", root=folder, size=16, stream=s) for s in (True, False)
    )
    assert torch.equal(a.test.tensors()[0], b.test.tensors()[0]) and torch.equal(
        a.train.y, b.train.y
    )
    assert b.train.augment == crop_flip(2) and isinstance(b.train, Batches)


def test_centre_against_pillow(folder):
    f = folder / "one.png"
    Image.fromarray(np.repeat(np.arange(64, dtype=np.uint8)[:, None] * 4, 64, 1)).save(f)
    # 56*8/7 = 64: no resizing, the middle 56
    s = streams.Stream([str(f)], torch.tensor([0]), ("a",), size=56)
    x = s.tensors()[0][0]
    assert torch.equal((x[0, :, 0] * 255).round(), torch.arange(4.0, 60) * 4) and torch.equal(
        x[0], x[2]
    )


def test_pictures_of_the_asked_size_stay_as_they_are(folder):
    "32 pixels asked, 32 there: neither scaled to 37 nor cropped; others are, and flat ones too"
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "own.png")
    Image.fromarray(pixels[:, :24]).save(folder / "narrow.png")
    Image.fromarray(np.repeat(pixels, 2, 0)).save(folder / "high.png")

    def read(name, size=32, **kw):
        file = [str(folder / name)]
        return streams.Stream(file, torch.tensor([0]), ("a",), size=size, **kw).tensors()[0][0]

    want = torch.from_numpy(pixels).permute(2, 0, 1)
    assert torch.equal((read("own.png") * 255).round().byte(), want)
    assert not torch.equal((read("high.png") * 255).round().byte(), want)
    for name, size in (("own.png", 24), ("narrow.png", 32), ("high.png", 32)):
        assert read(name, size).shape == (3, size, size)


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_image(folder, workers):
    f = folder / "test" / "bee" / "0.jpg"
    f.write_bytes(f.read_bytes()[:150])
    d = get_data("imagefolder", device="cpu", root=folder, size=16, workers=workers)
    with pytest.raises(OSError) as e:
        list(d.test)
    assert (
        str(f) in str(e.value)
        and "is no readable image" in str(e.value)
        and "\n" not in str(e.value)
    )


def test_bad_folders(folder):
    with pytest.raises(FileNotFoundError, match="no folders of images in .*give root="):
        get_data("imagefolder", device="cpu", root=folder / "none")
    (folder / "test" / "dog").mkdir()
    with pytest.raises(FileNotFoundError, match="a class without images"):
        get_data("imagefolder", device="cpu", root=folder)
    (folder / "test" / "dog" / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match="needs a folder for every class"):
        get_data("imagefolder", device="cpu", root=folder)


# ---- folders as people have them


def fill(root, parts, classes=("ant", "bee"), n=3):
    for part in parts:
        for c in classes:
            (root / part / c).mkdir(parents=True)
            for k in range(n):
                Image.fromarray(bytes_((20, 20, 3), k)).save(root / part / c / f"{k}.png")
    return root


def opened(root, **kw):
    return get_data("imagefolder", device="cpu", root=root, size=8, **kw)


@pytest.mark.parametrize(
    "names",
    [
        ("train", "valid", "test"),
        ("train", "validation", "test"),
        ("Train", "VAL", "Test"),
        ("TRAIN", "dev", "TEST"),
        ("training", "Validation", "testing"),
    ],
)
def test_names_of_parts(names, tmp_path):
    d = opened(fill(tmp_path, names))
    assert [p.n for p in d] == [6, 6, 6] and d.train.classes == ("ant", "bee")
    assert [{f.split("/")[-3] for f in p.files} for p in d] == [{n} for n in names]
    # so many of the part that is there
    assert opened(tmp_path, valid=2).valid.n == 2


@pytest.mark.parametrize("names", [("Train", "Test"), ("train", "valid"), ("Train", "Validation")])
def test_two_parts_are_no_two_classes(names, tmp_path):
    d = opened(fill(tmp_path, names))
    assert d.train.classes == ("ant", "bee") and {f.split("/")[-3] for f in d.test.files} == {
        names[1]
    }


def test_hidden_files_and_folders(tmp_path):
    fill(tmp_path, ("train", "test"))
    for part in ("", "train", "test", "train/ant"):
        for name in (
            ".git",
            ".ipynb_checkpoints",
            "__MACOSX",
            "__macosx",
            "@eaDir",
            "$RECYCLE.BIN",
            ".hidden",
        ):
            (tmp_path / part / name).mkdir(exist_ok=True)
            (tmp_path / part / name / "a.png").write_bytes(b"rubbish")
    # macOS' second half of a file
    for name in ("._0.png", ".a.png"):
        (tmp_path / "train" / "ant" / name).write_bytes(b"\x00\x05\x16\x07")
    d = opened(tmp_path)
    assert (
        d.train.classes == ("ant", "bee")
        and d.test.n == 6
        and all(torch.isfinite(x).all() for p in d for x, _ in p)
    )
    lone = opened(tmp_path / "train")
    assert lone.train.classes == ("ant", "bee") and sum(p.n for p in lone) == 6


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "valid"),
        ("train", "Train", "test"),
        ("train", "test", "testing"),
        ("train", "dev", "validation", "test"),
    ],
)
def test_two_candidates_for_a_part(names, tmp_path):
    with pytest.raises(
        ValueError, match="could each be the (train|valid|test) part; keep one of them"
    ) as e:
        opened(fill(tmp_path, names))
    assert str(tmp_path) in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize(
    "flat,full",
    [
        (("train", "test"), ()),
        (("Train", "Test"), ()),
        (("test",), ("train", "val")),
        (("train",), ()),
    ],
)
def test_parts_without_folders_of_classes(flat, full, tmp_path):
    fill(tmp_path, full)
    for part in flat:
        (tmp_path / part).mkdir()
        Image.fromarray(bytes_((9, 9, 3))).save(tmp_path / part / "0.png")
    with pytest.raises(ValueError, match="holds images but no folder per class"):
        opened(tmp_path)


def test_a_class_may_be_called_train(tmp_path):
    d = opened(fill(tmp_path, (".",), ("bus", "car", "train"), 5))
    assert d.train.classes == ("bus", "car", "train")


def test_classes_in_two_cases_are_refused(tmp_path):
    fill(tmp_path, ("train",), ("Ant", "bee"))
    fill(tmp_path, ("test",), ("ant", "bee"))
    with pytest.raises(
        ValueError, match=r"'Ant'.*written in two ways \(Ant, ant\); write it in one"
    ):
        opened(tmp_path)


# ---- images as people have them


def read(img, tmp_path, name="a.png", **kw):
    "The middle of an image (RGB), by way of a file"
    from spat_nb.data.images import read_image

    img.save(tmp_path / name, **kw)
    got = read_image(tmp_path / name)
    assert got.mode == "RGB"
    return np.asarray(got)


GREY = np.linspace(0, 255, 64).round().astype(np.uint8).reshape(8, 8)


@pytest.mark.parametrize(
    "name,array",
    [
        ("a.png", GREY.astype(np.uint16) * 257),
        ("a.tif", GREY.astype(np.uint16) * 257),
        ("a.tif", GREY.astype(np.int32) * 257),
        ("a.tif", (GREY / 255).astype(np.float32)),
        ("a.tif", (GREY * 257.0).astype(np.float32)),
        ("a.tiff", GREY.astype(">u2") * 257),
    ],
)
def test_more_than_eight_bits(name, array, tmp_path):
    got = read(Image.fromarray(array), tmp_path, name)
    assert np.array_equal(got, np.repeat(GREY[..., None], 3, 2))


@pytest.mark.parametrize(
    "array",
    [
        np.float32([[0, 100.0]]),
        np.float32([[-1, 1]]),
        np.float32([[0, np.nan]]),
        np.int32([[0, 70000]]),
        np.int32([[-5, 7]]),
    ],
)
def test_ranges_that_mean_nothing(array, tmp_path):
    with pytest.raises(OSError, match=r"a.tif is no readable image \(its pixels range from"):
        read(Image.fromarray(array), tmp_path, "a.tif")


def test_transparent_parts_are_white(tmp_path):
    rgba = bytes_((8, 8, 4))
    rgba[..., 3] = np.where(np.arange(64).reshape(8, 8) % 2, 255, 0)
    seen = rgba[..., 3:] > 0
    got = read(Image.fromarray(rgba), tmp_path)
    assert np.array_equal(got, np.where(seen, rgba[..., :3], 255))
    la = rgba[..., 2:]
    got = read(Image.fromarray(la), tmp_path)
    assert np.array_equal(got, np.where(seen, la[..., [0, 0, 0]], 255))
    pal = Image.fromarray(np.where(seen[..., 0], 1, 0).astype(np.uint8), "P")
    pal.putpalette([9, 8, 7, 10, 20, 30])
    got = read(pal, tmp_path, transparency=0)
    assert np.array_equal(got, np.where(seen, np.uint8([10, 20, 30]), 255))
    got = read(pal, tmp_path)
    assert np.array_equal(got, np.where(seen, np.uint8([10, 20, 30]), np.uint8([9, 8, 7])))
    got = read(
        Image.fromarray(np.where(seen, rgba[..., :3], np.uint8([1, 2, 3]))),
        tmp_path,
        transparency=(1, 2, 3),
    )
    assert np.array_equal(got, np.where(seen, rgba[..., :3], 255))
    half = np.full((1, 1, 4), 100, np.uint8)
    half[..., 3] = 128
    assert (
        abs(int(read(Image.fromarray(half), tmp_path)[0, 0, 0]) - (100 * 128 + 255 * 127) / 255)
        <= 1
    )


def test_other_modes_are_as_pillow_has_them(tmp_path):
    rgb = Image.fromarray(bytes_((8, 8, 3)))
    for mode, name in (
        ("L", "a.png"),
        ("1", "a.png"),
        ("RGB", "a.png"),
        ("CMYK", "a.jpg"),
        ("CMYK", "a.tif"),
        ("RGB", "a.jpg"),
        ("YCbCr", "a.jpg"),
    ):
        got = read(rgb.convert(mode), tmp_path, name)
        with Image.open(tmp_path / name) as f:
            assert np.array_equal(got, np.asarray(f.convert("RGB"))), (mode, name)


@pytest.mark.parametrize("turn", range(1, 9))
def test_photographs_stand_upright(turn, tmp_path):
    "EXIF's orientation: a phone writes the sensor's rows and a note how to turn them"
    exif = Image.Exif()
    exif[0x0112] = turn
    a = GREY[:4]
    stored = {
        1: a,
        2: a[:, ::-1],
        3: a[::-1, ::-1],
        4: a[::-1],
        5: a.T,
        6: np.rot90(a),
        7: a.T[::-1, ::-1],
        8: np.rot90(a, -1),
    }[turn]
    got = read(Image.fromarray(np.ascontiguousarray(stored)), tmp_path, exif=exif)
    assert np.array_equal(got[..., 0], a)
    assert read(
        Image.fromarray(np.ascontiguousarray(stored).astype(np.uint16) * 257), tmp_path, exif=exif
    ).shape == (4, 8, 3)


def test_batches_of_a_folder_are_read_so(tmp_path):
    "By way of `get_data`: 16 bits, transparent parts and EXIF, in the stream and in memory"
    exif = Image.Exif()
    exif[0x0112] = 3
    d = tmp_path / "a"
    d.mkdir()
    flat = np.full((16, 16), 128, np.uint8)
    clear = np.zeros((16, 16, 4), np.uint8)
    half = np.zeros((16, 16), np.uint8)
    half[:8] = 255
    for k in range(2):
        Image.fromarray(flat.astype(np.uint16) * 257).save(d / f"0{k}.png")
        Image.fromarray(clear).save(d / f"1{k}.png")
        Image.fromarray(half).save(d / f"2{k}.png", exif=exif)
    for stream in (True, False):
        for part in get_data(
            "imagefolder", device="cpu", root=tmp_path, size=14, valid=0, stream=stream
        ):
            if not part.n:
                continue
            part = part.with_(shuffle=False, augment=None)
            x, _ = part.tensors()
            means = {round(v.mean().item(), 3) for v in x}
            # dark above, light below: turned
            assert means <= {round(128 / 255, 3), 1.0, 0.5} and all(
                v[:, -1].mean() > 0.9 for v in x if v.mean() == 0.5
            )


def test_the_playground_reads_them_alike(tmp_path):
    from spat_nb.app.ownfile import own_image

    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / "a.png")
    assert np.array_equal(
        (own_image((tmp_path / "a.png").read_bytes(), (3, 8, 8))[0, 0] * 255).round().numpy(), GREY
    )


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "huge", "a folder", "gone"])
def test_bad_images_are_named(kind, tmp_path, monkeypatch):
    from spat_nb.data.images import read_image

    f = tmp_path / "photo $1.png"
    Image.fromarray(bytes_((64, 64, 3))).save(f)
    if kind == "huge":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    elif kind in ("a folder", "gone"):
        f.unlink()
    else:
        f.write_bytes({"empty": b"", "text": b"not an image", "cut": f.read_bytes()[:500]}[kind])
    if kind == "a folder":
        f.mkdir()
    with pytest.raises(OSError) as e:
        read_image(f)
    assert (
        str(f) in str(e.value) and "out of the folder" in str(e.value) and "\n" not in str(e.value)
    )


# ---- arrays


def arrays(n=40, shape=(16, 16, 3), c=4, **changes):
    have = dict(
        x_train=bytes_((n, *shape)),
        y_train=np.arange(n) % c,
        x_test=bytes_((20, *shape), 1),
        y_test=np.arange(20) % c,
    )
    return {k: v for k, v in (have | changes).items() if v is not None}


def npz(tmp_path, name="my.npz", **kw):
    np.savez(tmp_path / name, **arrays(**kw))
    return tmp_path / name


@pytest.mark.parametrize("shape", [(16, 16, 3), (12, 16), (12, 16, 1), (8, 8, 4)])
def test_arrays(shape, tmp_path):
    have = arrays(shape=shape)
    np.savez(tmp_path / "my.npz", **have)
    d = get_data(tmp_path / "my.npz", device="cpu", batch_size=7)

    def chw(x):
        return torch.from_numpy(x.reshape(len(x), *shape[:2], -1).transpose(0, 3, 1, 2).copy())

    assert (
        [p.n for p in d] == [32, 8, 20]
        and torch.equal(d.test.x, chw(have["x_test"]))
        and d.test.y.tolist() == have["y_test"].tolist()
        and d.test.classes == tuple("0123")
    )
    assert sorted(images(d.train) + images(d.valid)) == sorted(
        bytes(v.flatten().tolist()) for v in chw(have["x_train"])
    )
    assert (
        d.train.shuffle
        and not d.test.shuffle
        and d.test.augment is None
        and d.train.augment == (crop_flip(2) if shape == (16, 16, 3) else None)
    )
    assert (
        d.train.batch_size == 7
        and d.train.superclasses == ()
        and get_data(tmp_path / "my.npz", device="cpu", augment=None).train.augment is None
    )


def test_arrays_by_name_and_path(tmp_path, monkeypatch):
    npz(tmp_path, "mine.npz")
    monkeypatch.setenv("SPAT_NB_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    want = get_data(str(tmp_path / "mine.npz"), device="cpu", seed=3)
    for name in ("mine", "mine.npz", Path("mine.npz")):
        assert torch.equal(get_data(name, device="cpu", seed=3).train.x, want.train.x)
    assert torch.equal(get_data("mine", device="cpu", root=tmp_path, seed=4).test.x, want.test.x)
    assert not same(list(get_data("mine", device="cpu", seed=4).train), list(want.train))
    d = get_data("mine", device="cpu", n=8, valid=4)
    assert [p.n for p in d] == [8, 4, 20] and d.train.y.bincount().tolist() == [2] * 4
    with pytest.raises(ValueError, match="did you mean 'mine'"):
        get_data("minr", device="cpu")


def test_a_known_set_as_arrays(tmp_path, monkeypatch):
    """cifar100.npz stands in for torchvision's files, with CIFAR's augmentation; where these are
    there they are taken
    """
    npz(tmp_path, "cifar100.npz", shape=(32, 32, 3))
    d = get_data("cifar100", device="cpu", root=tmp_path)
    assert d.test.n == 20 and d.train.augment == crop_flip(4)
    MAKERS["cifar100"](tmp_path, monkeypatch)
    assert get_data("cifar100", device="cpu", root=tmp_path).test.n == 30
    npz(tmp_path, "digits.npz")
    assert get_data("digits", device="cpu", root=tmp_path).test.n == 360


def test_arrays_with_all_there_is(tmp_path):
    more = dict(
        x_valid=bytes_((6, 16, 16, 3), 5),
        y_valid=np.arange(6).astype(np.uint8)[:, None] % 4,
        classes=np.array(["$x$", "b", "日本", "d"]),
        superclasses=np.array(["one", "two"]),
        superclass_of_class=np.array([0, 1, 1, 0]),
    )
    d = get_data(npz(tmp_path, **more), device="cpu")
    assert (
        [p.n for p in d] == [40, 6, 20]
        and np.array_equal(d.valid.x.permute(0, 2, 3, 1).numpy(), more["x_valid"])
        and d.test.classes == ("$x$", "b", "日本", "d")
    )
    for p in (
        d.train,
        d.train.subset(8),
        d.test.with_(batch_size=3),
        d.train.take(torch.arange(5)),
        d.train.hold_out(4)[1],
    ):
        assert p.superclasses == ("one", "two") and p.superclass_of_class == (0, 1, 1, 0)
    from spat_nb.classwise.homing import without

    left = without(d.train, 1)
    assert left.classes == ("$x$", "日本", "d") and left.superclass_of_class == (0, 1, 0)
    assert get_data(tmp_path / "my.npz", device="cpu", valid=4).valid.n == 4
    with pytest.raises(ValueError, match="3 of 4 classes have a superclass"):
        d.train.with_(superclass_of_class=(0, 1, 1))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays_of_floats(dtype, tmp_path):
    x = bytes_((40, 16, 16, 3))
    d = get_data(
        npz(
            tmp_path,
            x_train=(x / 255).astype(dtype),
            x_test=(bytes_((20, 16, 16, 3), 1) / 255).astype(dtype),
        ),
        device="cpu",
        valid=0,
    )
    assert np.array_equal(d.train.x.permute(0, 2, 3, 1).numpy(), x)


X, Y = bytes_((40, 16, 16, 3)), np.arange(40) % 4
BAD_ARRAYS = {
    "channels first": (
        dict(x_train=X.transpose(0, 3, 1, 2)),
        r"x_train has shape \(40, 3, 16, 16\).*x_train.transpose\(0, 2, 3, 1\)",
    ),
    "many channels": (dict(x_test=bytes_((20, 16, 16, 16))), "x_test has shape.*1 to 4 channels"),
    "rows": (dict(x_train=X.reshape(40, -1)), r"x_train has shape \(40, 768\); give \(n,h,w\)"),
    "no images": (dict(x_test=X[:0], y_test=Y[:0]), "x_test.*holds no image"),
    "no pixels": (dict(x_test=X[:20, :0]), "x_test.*holds no image"),
    "other size": (
        dict(x_test=X[:20, :8]),
        r"x_test holds images \(ch,h,w\) = \(3, 8, 16\) but x_train \(3, 16, 16\)",
    ),
    "whole numbers": (dict(x_train=X.astype(np.int64)), "x_train has dtype int64; give uint8"),
    "sixteen bits": (dict(x_test=X[:20].astype(np.uint16)), "x_test has dtype uint16"),
    "bool": (dict(x_train=X > 9), "x_train has dtype bool"),
    "floats to 255": (dict(x_train=X.astype(np.float32)), "x_train ranges from 0 to 255; .*divide"),
    "normalised": (dict(x_test=X[:20] / 128 - 1), "x_test ranges from -1 to"),
    "NaN": (dict(x_train=np.full((40, 16, 16, 3), np.nan)), "x_train ranges from nan"),
    "too few labels": (dict(y_train=Y[:39]), "y_train has 39 labels for 40 images"),
    "one-hot": (dict(y_train=np.eye(4)[Y]), r"y_train has shape \(40, 4\).*y_train.argmax\(1\)"),
    "float labels": (
        dict(y_test=Y[:20] * 1.0),
        "y_test has dtype float64; labels are whole numbers",
    ),
    "names as labels": (
        dict(y_train=np.array(["a", "b"])[Y % 2]),
        "y_train has dtype <U1.*classes",
    ),
    "negative label": (dict(y_train=Y - 1), "y_train holds label -1"),
    "damaged label": (dict(y_train=Y * 10**8), "but there are only"),
    "label beyond all": (dict(y_train=Y.astype("int64") * 10**10), "which numbers no class"),
    "from one": (dict(y_train=Y + 1, y_test=Y[:20] + 1), "labels run from 1 to 4; count from 0"),
    "outside classes": (
        dict(classes=np.array(["a", "b", "c"])),
        "y_train holds label 3 but classes has 3 names",
    ),
    "outside in test": (
        dict(y_train=Y % 3, classes=np.array(["a", "b", "c"])),
        "y_test holds label 3",
    ),
    "class twice": (dict(classes=np.array(["a", "b", "a", "d"])), "classes holds 'a' twice"),
    "numbers as names": (dict(classes=np.arange(4)), "classes has shape.*one text per class"),
    "Python objects": (
        dict(classes=np.array(["a", "b", "c", None], dtype=object)),
        "classes is an array of Python objects",
    ),
    "objects as images": (
        dict(x_train=np.array([{}] * 40, dtype=object)),
        "x_train is an array of Python objects",
    ),
    "no test part": (
        dict(x_test=None, y_test=None),
        r"has no x_test, y_test \(it holds x_train, y_train\)",
    ),
    "half a valid part": (dict(x_valid=X[:5]), "has no y_valid"),
    "other keys": (dict(x_train=None, train_images=X), "has no x_train"),
    "one superclass key": (
        dict(superclasses=np.array(["p"])),
        "has superclasses without superclass_of_class",
    ),
    "superclass outside": (
        dict(superclasses=np.array(["p", "q"]), superclass_of_class=np.array([0, 1, 2, 0])),
        "runs from 0 to 2; numbers of the 2 superclasses run from 0 to 1",
    ),
    "superclasses too few": (
        dict(superclasses=np.array(["p", "q"]), superclass_of_class=np.array([0, 1])),
        "superclass_of_class has shape",
    ),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays(case, tmp_path):
    changes, says = BAD_ARRAYS[case]
    with pytest.raises(ValueError, match=says) as e:
        get_data(npz(tmp_path, **changes), device="cpu")
    assert (
        str(tmp_path / "my.npz") in str(e.value)
        and "\n" not in str(e.value)
        and len(str(e.value)) < 400
    )


@pytest.mark.parametrize("how", ["cut", "text", "empty", "npy", "a bit", "pickle", "folder"])
def test_damaged_arrays(how, tmp_path):
    p = npz(tmp_path)
    raw = bytearray(p.read_bytes())
    if how == "cut":
        p.write_bytes(raw[:-300])
    if how == "text":
        p.write_text("x_train")
    if how == "empty":
        p.write_bytes(b"")
    if how == "npy":
        np.save(tmp_path / "a.npy", X)
        (tmp_path / "a.npy").rename(p)
    if how == "a bit":
        raw[5000] ^= 1
        p.write_bytes(raw)
    if how == "pickle":
        p.write_bytes(pickle.dumps({"x_train": [1]}))
    if how == "folder":
        p.unlink()
        p.mkdir()
    with pytest.raises(ValueError, match="my.npz") as e:
        get_data(p, device="cpu")
    assert "\n" not in str(e.value) and "allow_pickle" not in str(e.value)


def test_arrays_never_run_a_pickle(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "pwned",))

    for where in ("x_train", "classes", "superclass_of_class"):
        with pytest.raises(ValueError, match="Python objects"):
            get_data(
                npz(
                    tmp_path,
                    **{
                        "superclasses": np.array(["a"]),
                        where: np.array([Evil()] * 4, dtype=object),
                    },
                ),
                device="cpu",
            )
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "kw,says",
    [
        (dict(n=0), "n is 0"),
        (dict(n=-1), "n is -1"),
        (dict(n=1.5), "n is 1.5"),
        (dict(valid=-1), "valid is -1"),
        (dict(batch_size=0), "batch_size is 0"),
        (dict(size=0), "size is 0"),
        (dict(workers=-1), "workers is -1"),
    ],
)
def test_counts_that_count_nothing(kw, says, tmp_path):
    "Refused before a file is opened"
    for name in ("digits", "imagefolder", "svhn", "my.npz"):
        with pytest.raises((TypeError, ValueError), match=says):
            get_data(name, device="cpu", root=tmp_path / "none", **kw)


def test_real_cifar100():
    d = real("cifar100")
    if not d.train.superclasses:
        pytest.skip("torchvision has no superclasses")
    assert (
        [p.n for p in d] == [49000, 1000, 10000]
        and d.train.y.bincount().tolist() == [490] * 100
        and d.train.augment == crop_flip(4)
    )
    assert d.train.classes[:3] == ("apple", "aquarium_fish", "baby") and [
        d.train.superclasses[k] for k in d.train.superclass_of_class[:3]
    ] == ["fruit_and_vegetables", "fish", "people"]
    assert d.test.y[:5].tolist() == [49, 33, 72, 51, 71]


# ---- the call


@pytest.mark.parametrize(
    "name,why",
    [
        ("cifar", "did you mean 'cifar10'"),
        ("CIFAR-100", "did you mean 'cifar100'"),
        ("xyz", "known are digits"),
        (7, "known are digits"),
    ],
)
def test_unknown_set(name, why):
    with pytest.raises(ValueError, match="unknown data set") as e:
        get_data(name)
    assert why in str(e.value) and "imagefolder" in str(e.value)


def test_digits():
    a, b = get_data("digits", device="cpu", seed=0), get_data("digits", device="cpu", seed=1)
    assert (
        [p.n for p in a] == [1257, 180, 360]
        and a.test.y.bincount().tolist() == [36] * 10
        and a.valid.y.bincount().tolist() == [18] * 10
    )
    # `seed` moves no image
    assert all(torch.equal(p.x, q.x) for p, q in zip(a, b))
    assert not same(list(a.train), list(b.train))
    c = get_data("digits", device="cpu", split=1)
    assert torch.equal(a.test.x, c.test.x) and not torch.equal(a.valid.x, c.valid.x)
    n = get_data("digits", device="cpu", n=100)
    assert n.train.y.bincount().tolist() == [10] * 10 and (n.valid.n, n.test.n) == (180, 360)
    assert get_data("digits", device="cpu", augment=None).train.augment is None


def test_imports_are_lazy():
    code = (
        "import sys, spat_nb.data.sources, spat_nb.core.plot; print([m for m in ('torchvision', 'sklearn',"  # noqa: E501
        " 'matplotlib', 'scipy', 'PIL', 'pandas') if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


# ---- real files, where settings().data (SPAT_NB_DATA) has them


def real(name, **kw):
    try:
        return get_data(name, device="cpu", **kw)
    except FileNotFoundError as e:
        pytest.skip(f"no real {name}: {e}")


def test_real_cifar10():
    d = real("cifar10")
    assert [p.n for p in d] == [49000, 1000, 10000] and d.train.y.bincount().tolist() == [4900] * 10
    assert d.test.classes == (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
    both = torch.cat([d.train.x, d.valid.x])
    # the numbers that everybody normalises with
    for c, mean, std in ((0, 0.4914, 0.2470), (1, 0.4822, 0.2435), (2, 0.4465, 0.2616)):
        v = both[:, c].float() / 255
        assert abs(v.mean().item() - mean) < 1e-4 and abs(v.std().item() - std) < 1e-4
    assert d.test.y[:5].tolist() == [3, 8, 8, 0, 6]


def test_real_mnist():
    d = real("mnist")
    assert [p.n for p in d] == [59000, 1000, 10000] and d.test.y[:5].tolist() == [7, 2, 1, 0, 4]
    both = torch.cat([d.train.x, d.valid.x]).float() / 255
    assert abs(both.mean().item() - 0.1307) < 1e-4 and abs(both.std().item() - 0.3081) < 1e-4


def test_real_imagenette():
    root = settings().data / "imagenette"
    if not root.is_dir():
        pytest.skip(f"no real imagenette in {root.parent}")
    d = get_data("imagefolder", device="cpu", root=root, size=64, batch_size=50, workers=2)
    assert [p.n for p in d] == [640, 160, 200] and d.test.y.bincount().tolist() == [20] * 10
    x, y = next(iter(d.train))
    assert x.shape == (50, 3, 64, 64) and 0.3 < x.mean() < 0.6
    assert same(
        list(d.train.subset(100).epoch(1))[1:],
        list(d.train.subset(100).with_(workers=0).epoch(1, 1)),
    )
