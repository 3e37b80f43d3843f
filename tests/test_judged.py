"""Images to judge on, from what a person typed; sets of torch and Hugging Face, item by item"""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from spat_nb.attacks.balls import Linf
from spat_nb.data.items import from_dataset, is_dataset
from spat_nb.data.judged import is_ones_own, open_judged
from spat_nb.data.pairs import in_memory
from spat_nb.measure.judge import judge
from spat_nb.models.networks import SmallCNN


def pictures(n=12, side=8, mode="RGB"):
    g = np.random.default_rng(0)
    shape = (side, side, 3) if mode == "RGB" else (side, side)
    return [Image.fromarray(g.integers(0, 256, shape, dtype=np.uint8)) for _ in range(n)]


class Pictures(Dataset):
    "As torchvision's sets are: Pillow's images, targets, classes"

    def __init__(self, images, labels, classes=("cat", "dog", "fox")):
        self.images, self.targets, self.classes = images, labels, classes
        self.asked = []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        self.asked.append(i)
        return self.images[i], self.targets[i]


LABELS = [0, 1, 2] * 4


def test_pictures_keep_their_bytes_labels_and_names():
    images = pictures()
    items = from_dataset(Pictures(images, LABELS), batch_size=5)
    x, y = items.tensors()
    want = torch.stack([torch.from_numpy(np.array(i)).permute(2, 0, 1) for i in images])
    assert torch.equal((x * 255).round().byte(), want)
    assert y.tolist() == LABELS and items.classes == ("cat", "dog", "fox")
    assert (items.n, items.c, items.shape, len(items)) == (12, 3, (3, 8, 8), 3)
    assert torch.equal(in_memory(items).x, want)


def test_grey_stays_grey_and_sizes_are_made():
    items = from_dataset(Pictures(pictures(mode="L"), LABELS))
    assert items.shape == (1, 8, 8)
    assert from_dataset(Pictures(pictures(side=30), LABELS), size=16).shape == (3, 16, 16)
    x = torch.rand(4, 3, 20, 20)
    # tensors are as their owner made them
    assert from_dataset(TensorDataset(x, torch.arange(4)), size=8).shape == (3, 20, 20)


def test_a_subset_reads_its_own_images_alone():
    data = Pictures(pictures(), LABELS)
    items = from_dataset(data)
    data.asked.clear()
    part = items.subset(6)
    assert data.asked == [] and part.y.bincount().tolist() == [2, 2, 2]
    x, y = part.tensors()
    assert sorted(data.asked) == part.index.tolist()
    whole, _ = items.tensors()
    assert torch.equal(x, whole[part.index])


def test_labels_are_read_where_the_set_tells_others():
    "A target_transform changes the labels of the items and leaves `targets` as they were"

    class Shifted(Pictures):
        def __getitem__(self, i):
            image, label = super().__getitem__(i)
            return image, (label + 1) % 3

    items = from_dataset(Shifted(pictures(), LABELS))
    assert items.y.tolist() == [(v + 1) % 3 for v in LABELS]


def test_labels_of_a_subset_a_dict_and_arrays():
    base = Pictures(pictures(), LABELS)
    some = from_dataset(Subset(base, [7, 2, 5]))
    assert some.y.tolist() == [LABELS[i] for i in (7, 2, 5)] and some.classes == base.classes

    class Dicts(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return {"img": np.full((5, 6, 3), 10 * i, dtype=np.uint8), "label": i % 2}

    items = from_dataset(Dicts())
    x, y = items.tensors()
    assert x.shape == (4, 3, 5, 6) and y.tolist() == [0, 1, 0, 1]
    assert torch.equal(x[3], torch.full((3, 5, 6), 30 / 255))


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_loader_is_its_set(shuffle):
    x, y = torch.rand(10, 1, 4, 4), torch.arange(10) % 2
    loader = DataLoader(TensorDataset(x, y), batch_size=4, shuffle=shuffle)
    assert is_dataset(loader)
    items = from_dataset(loader)
    assert items.batch_size == 4 and torch.equal(items.tensors()[0], x)


def test_what_is_no_plain_set():
    class Endless(IterableDataset):
        def __iter__(self):
            yield torch.rand(1, 2, 2), 0

    data = TensorDataset(torch.rand(4, 1, 2, 2), torch.arange(4))
    assert not is_dataset(Endless()) and not is_dataset(DataLoader(Endless()))
    assert not is_dataset(DataLoader(data, collate_fn=lambda items: items))
    assert not is_dataset(DataLoader(data, batch_size=None)) and not is_dataset([1, 2])


def test_bad_items_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="other pixels each time"):

        class Noisy(Pictures):
            def __getitem__(self, i):
                return torch.rand(3, 4, 4), self.targets[i]

        from_dataset(Noisy(pictures(), LABELS))
    with pytest.raises(ValueError, match="size=224"):
        mixed = pictures(6) + pictures(6, side=9)
        from_dataset(Pictures(mixed, LABELS)).tensors()
    with pytest.raises(ValueError, match="no images"):
        from_dataset(TensorDataset(torch.rand(0, 1, 2, 2), torch.arange(0)))
    with pytest.raises(TypeError, match="item 0 of the data set is a str"):
        from_dataset(Pictures(["a.png"] * 12, LABELS))
    x = torch.randn(4, 3, 4, 4) * 3  # normalised: not pixels
    with pytest.raises(ValueError, match=r"\[0,1\]"):
        from_dataset(TensorDataset(x, torch.arange(4))).tensors()


def test_a_data_set_and_a_loader_are_judged_like_their_tensors():
    torch.manual_seed(0)
    x, y = torch.rand(24, 1, 8, 8).mul(255).round() / 255, torch.arange(24) % 10
    net = SmallCNN(10, channels=1, width=4)
    data = TensorDataset(x, y)
    kw = dict(attacks="fgsm, pgd(steps=2)", progress=False)
    want = judge(net, in_memory(data), Linf(0.1), **kw)
    for given in (data, DataLoader(data, batch_size=128)):
        found = judge(net, given, Linf(0.1), **kw)
        for name in want.record.names:
            assert torch.equal(found.record.correct(name), want.record.correct(name)), name
    card = judge(net, data, Linf(0.1), trust=dict(n=8), n=20, **kw).card
    assert card.n == 8


# ---- what is typed


@pytest.fixture
def folder(tmp_path):
    for part in ("train", "val"):
        for k, name in enumerate(("cat", "dog")):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(3 if part == "train" else 2):
                pictures()[3 * k + i].save(tmp_path / part / name / f"{i}.png")
    return tmp_path


def test_a_folder_with_parts_and_one_without(folder):
    images, told = open_judged(str(folder), size=8)
    assert images.n == 4 and told.endswith(", val") and images.classes == ("cat", "dog")
    images, told = open_judged(str(folder), part="train", size=8)
    assert images.n == 6 and told.endswith(", train")
    images, told = open_judged(str(folder / "val"))
    assert images.n == 4 and images.shape == (3, 224, 224) and told.endswith("all images")
    with pytest.raises(ValueError, match="no parts"):
        open_judged(str(folder / "val"), part="test")
    with pytest.raises(ValueError, match="--split train"):
        open_judged(str(folder), part="dev")


MINE = """
import torch
from torch.utils.data import DataLoader, TensorDataset

x, y = torch.rand(6, 3, 4, 4), torch.arange(6) % 2
pair = (x, y)
test_set = TensorDataset(x, y)
loader = DataLoader(test_set, batch_size=2)


def make():
    return test_set


def asks(n):
    return test_set
"""


@pytest.mark.parametrize("name", ["pair", "test_set", "loader", "make"])
def test_a_file_of_ones_own(tmp_path, name):
    (tmp_path / "mine.py").write_text(MINE)
    images, told = open_judged(f"{tmp_path}/mine.py:{name}", batch_size=3)
    assert images.n == 6 and images.shape == (3, 4, 4) and "all images" in told
    assert images.subset(2).n == 2


def test_a_file_of_ones_own_that_does_not_fit(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    with pytest.raises(TypeError, match="without arguments"):
        open_judged(f"{tmp_path}/mine.py:asks")
    with pytest.raises(ValueError, match="no parts"):
        open_judged(f"{tmp_path}/mine.py:pair", part="test")
    with pytest.raises(ValueError, match="has no 'nothing'"):
        open_judged(f"{tmp_path}/mine.py:nothing")


def test_names_that_recipes_know_are_no_ones_own(tmp_path):
    assert not any(is_ones_own(n) for n in ("digits", "cifar10", "a.npz", "C:\\data\\a.npz"))
    assert all(is_ones_own(n) for n in ("a.py:b", "a.b:c", "hf:imdb", str(tmp_path)))
    images, told = open_judged("digits")
    assert images.n == 360 and told == "digits, test"
    with pytest.raises(ValueError, match="split is 'val'"):
        open_judged("digits", part="val")


def test_hugging_face_from_a_folder(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=["cat", "dog", "fox"])
    )
    images = pictures()
    made = datasets.Dataset.from_dict({"image": images, "label": LABELS}, features=features)
    datasets.DatasetDict(train=made, validation=made.select(range(6))).save_to_disk(tmp_path / "d")
    items, told = open_judged(f"hf:{tmp_path}/d")
    assert items.n == 6 and told.endswith("validation") and items.classes == ("cat", "dog", "fox")
    want = torch.stack([torch.from_numpy(np.array(i)).permute(2, 0, 1) for i in images[:6]])
    assert torch.equal((items.tensors()[0] * 255).round().byte(), want)
    assert open_judged(f"hf:{tmp_path}/d", part="train")[0].n == 12
    with pytest.raises(ValueError, match="write hf:"):
        open_judged(f"{tmp_path}/d")
    with pytest.raises(ValueError, match="--split train"):
        open_judged(f"hf:{tmp_path}/d", part="dev")
    with pytest.raises(FileNotFoundError, match="save_to_disk"):
        open_judged("hf:nobody/has-this-one")


class Broken(Pictures):
    "One of its files is gone once it is opened"

    gone = -1

    def __getitem__(self, i):
        if i == self.gone:
            raise OSError("no such file")
        return super().__getitem__(i)


@pytest.mark.parametrize(
    "label,says",
    [
        (0.5, "item 0 of the data set has the label 0.5"),
        ([0.0, 1.0], r"item 0 of the data set has the label \[0.0, 1.0\]"),
        (float("nan"), "has the label nan"),
        ("cat", "has the label cat; give the number of its class"),
    ],
)
def test_labels_that_are_no_numbers_of_classes(label, says):
    class Labelled(Pictures):
        def __getitem__(self, i):
            return self.images[i], label

    data = Labelled(pictures(), None)
    with pytest.raises(ValueError, match=says):
        from_dataset(data)


def test_an_item_that_cannot_be_read_is_named():
    data = Broken(pictures(), LABELS)
    told = from_dataset(data)
    data.gone = 7
    says = r"item 7 of the data set cannot be read \(no such file\)"
    with pytest.raises(ValueError, match=says):
        told.tensors()
    with pytest.raises(ValueError, match=says):
        from_dataset(data)


def test_a_pixel_that_is_no_number_is_no_augmentation():
    x = torch.rand(6, 3, 8, 8, generator=torch.manual_seed(0))
    x[0, 0, 0, 0] = float("nan")
    data = from_dataset(TensorDataset(x, torch.arange(6) % 3))
    with pytest.raises(ValueError, match="(?i)nan"):
        data.tensors()


# ---- from the command line


def typed(*words):
    from spat_nb.app.cli import main

    return main(["evaluate", *words])


def test_flags_that_mean_nothing_here_are_refused(folder, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "import torch\n\ndef net(x):\n    return torch.stack([x.mean((1, 2, 3))] * 2, 1)\n"
    )
    name, more = (
        f"{tmp_path}/mine.py:net",
        ["--ball", "Linf(.1)", "--size", "8", "--attacks", "fgsm"],
    )
    for flags, words in (
        (["--untrained"], "untrained"),
        (["--pretrained"], "pretrained"),
        (["--root", str(folder)], "root"),
    ):
        assert typed(name, "--data", str(folder), *more, *flags)
        assert words in capsys.readouterr().err


def test_a_folder_is_judged_by_the_command(folder, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "def net(x):\n"
        "    s = 9 * (x.mean((1, 2, 3)) - 0.5)[:, None]\n"
        "    import torch\n"
        "    return torch.cat([s, -s], 1)\n"
    )
    name = f"{tmp_path}/mine.py:net"
    told = typed(
        name, "--data", str(folder), "--split", "train", "--size", "8", "--ball", "Linf(.1)"
    )
    out = capsys.readouterr().out
    assert not told and "train: 6 images of 3x8x8, 2 classes" in out
    assert "loaded right?" in out  # six images tell nothing, and accuse nobody
    assert not typed(
        name, "--data", str(folder), "--size", "8", "--ball", "Linf(.1)", "--n-test", "2"
    )
    assert "val: 2 images" in capsys.readouterr().out
