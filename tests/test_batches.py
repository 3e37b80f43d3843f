"""Batches by hand: streams of random numbers, fair choices, augmentation, folders, data sets of
others, and what a default of augmentation does to a network
"""

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from spat_nb.core.rng import generator
from spat_nb.data.batches import Batches
from spat_nb.data.draws import _rank, crop_flip, pick, rng
from spat_nb.data.opening import bundled_digits, folder_parts, open_part
from spat_nb.data.pairs import Pairs, in_memory
from spat_nb.data.sources import get_data
from spat_nb.data.streams import Stream, centre, resized_crop


# ---- streams of random numbers
def draw(*keys):
    return torch.rand(4, generator=rng(*keys))


def test_a_stream_is_a_function_of_its_keys():
    assert torch.equal(draw(0, 7, 200), draw(0, 7, 200))
    assert not torch.equal(draw(0, 1, 23), draw(0, 12, 3))
    keys = [(s, e, k) for s in range(5) for e in range(5) for k in range(5)]
    assert len({tuple(draw(*k).tolist()) for k in keys}) == 125
    assert torch.equal(draw(torch.tensor(3).item(), "x"), draw(3, "x"))
    state = torch.get_rng_state()
    draw(0)
    assert torch.equal(torch.get_rng_state(), state)


# ---- choices
def test_the_rank_within_a_class():
    for y in (torch.tensor([0, 0, 0, 1, 2, 2]), torch.randint(7, (500,), generator=generator(0))):
        assert _rank(y).tolist() == [int((y[:k] == y[k]).sum()) for k in range(len(y))]


def test_a_choice_is_fair_nested_and_by_seed():
    y = torch.randint(7, (500,), generator=generator(0))
    i = pick(y, 100)
    # nobody twice
    assert len(set(i.tolist())) == 100
    per_class = y[i].bincount()
    assert per_class.max() - per_class.min() <= 1
    # a smaller choice is part of a larger one
    assert set(pick(y, 40).tolist()) <= set(i.tolist())
    assert torch.equal(i, pick(y, 100)) and not torch.equal(i, pick(y, 100, seed=1))
    # a rare class is taken whole, 5 of the other fill up
    rare = torch.tensor([0] * 9 + [1])
    assert pick(rare, 6).tolist()[-1] == 9
    assert not all(9 in pick(rare, 6, seed=s, balanced=False) for s in range(30))
    assert pick(y, 0).numel() == 0 and torch.equal(pick(y, 500), torch.arange(500))
    with pytest.raises(ValueError, match="501 images are asked for; choose between 0 and 500"):
        pick(y, 501)


# ---- augmentation
def by_hand(x, pad, generator):
    i, j = torch.randint(2 * pad + 1, (2, len(x)), generator=generator)
    mirror = torch.rand(len(x), generator=generator) < 0.5
    h, w = x.shape[2:]
    out = [F.pad(im, [pad] * 4)[:, a : a + h, b : b + w] for im, a, b in zip(x, i, j)]
    return torch.stack([im.flip(2) if m else im for im, m in zip(out, mirror)])


def test_crop_flip_is_the_loop_by_hand():
    x = torch.rand(64, 3, 9, 12, generator=generator(0))
    for pad in (0, 1, 4):
        assert torch.equal(crop_flip(pad)(x, rng(pad)), by_hand(x, pad, rng(pad)))
    z = crop_flip(4)(x, rng(0))
    assert z.shape == x.shape and 0 <= z.min() and z.max() <= 1
    assert torch.equal(crop_flip(0, False)(x), x)
    assert crop_flip(2)(x.double(), rng(1)).dtype == torch.float64
    # without a generator: torch's own
    torch.manual_seed(0)
    a = crop_flip(2)(x)
    torch.manual_seed(0)
    assert torch.equal(crop_flip(2)(x), a)


def test_every_place_occurs_and_images_move_alone():
    line = torch.zeros(300, 1, 3, 3)
    line[:, :, 1] = 1.0
    line[:, :, :, :] = torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, 0, 0]])
    moved = crop_flip(1, False)(line, rng(0))
    # 3 places down and 3 across
    assert len({tuple(d.flatten().tolist()) for d in moved}) == 9
    x = torch.rand(20_000, 1, 5, 5, generator=generator(0))
    same = (crop_flip(4)(x, rng(0)) == x).flatten(1).all(1).float().mean()
    assert abs(same - 1 / 162) < 0.002


def test_one_draw_per_batch_spreads_more():
    x = get_data("digits", device="cpu").train.tensors()[0][:128]

    def one_draw(x, generator):
        i, j = torch.randint(3, (2,), generator=generator).tolist()
        return F.pad(x, [1] * 4)[:, :, i : i + 8, j : j + 8]

    def spread(augment):
        return torch.stack([augment(x, rng(s)).mean(0) for s in range(50)]).std(0).mean()

    assert spread(one_draw) > 5 * spread(crop_flip(1, False))


# ---- batches
@pytest.fixture
def hundred():
    x = torch.randint(256, (100, 3, 8, 8), dtype=torch.uint8, generator=generator(0))
    y, names = torch.arange(100) % 5, tuple("abcde")
    return Batches(x, y, names, batch_size=16, shuffle=True, augment=crop_flip(2), seed=3)


def test_the_rest_of_an_epoch_is_its_end(hundred):
    b, state = hundred, torch.get_rng_state()
    whole, rest = list(b.epoch(7)), list(b.epoch(7, start=3))
    assert (len(whole), len(rest), len(b), len(whole[-1][1])) == (7, 4, 7, 4)
    for (x1, y1), (x2, y2) in zip(whole[3:], rest):
        assert torch.equal(x1, x2) and torch.equal(y1, y2)
    assert torch.equal(torch.get_rng_state(), state)
    # every image once, in another order in the next epoch
    assert torch.equal(torch.cat(b.indices(7)).sort().values, torch.arange(100))
    assert not torch.equal(torch.cat(b.indices(7)), torch.cat(b.indices(8)))
    assert not torch.equal(whole[0][0], next(b.with_(seed=4).epoch(7))[0])
    assert all(0 <= v.min() and v.max() <= 1 and v.dtype == torch.float32 for v, _ in whole)
    assert list(b.epoch(7, start=7)) == []


def test_batches_without_order_and_augmentation(hundred):
    plain = hundred.with_(shuffle=False, augment=None)
    assert torch.equal(torch.cat([v for v, _ in plain]), plain.tensors()[0])
    assert torch.equal(torch.cat([v for _, v in plain]), plain.y)
    # bytes come back exactly
    assert torch.equal((plain.tensors()[0] * 255).round().byte(), plain.x)
    found = (plain.n, plain.c, plain.shape, plain.classes)
    assert found == (100, 5, (3, 8, 8), tuple("abcde"))


def test_parts_of_batches(hundred):
    assert hundred.subset(10).y.bincount().tolist() == [2] * 5
    assert hundred.subset(10).augment == crop_flip(2)
    rest, held = hundred.hold_out(20)
    assert (rest.n, held.n) == (80, 20) and held.y.bincount().tolist() == [4] * 5
    # together: all images; the sizes say: none twice
    both = torch.cat([rest.x, held.x]).flatten(1).unique(dim=0)
    assert both.shape == hundred.x.flatten(1).unique(dim=0).shape
    assert list(hundred.subset(0)) == []


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda b: dict(x=b.x.float()), "give bytes"),
        (lambda b: dict(x=b.x[0]), "give bytes"),
        (lambda b: dict(y=b.y[:50]), "100 images but 50 labels"),
        (lambda b: dict(y=b.y + 1), "label 5"),
        (lambda b: dict(y=b.y.int()), "int64"),
        (lambda b: dict(batch_size=0), "batch_size is 0"),
    ],
)
def test_batches_that_do_not_fit(hundred, change, says):
    with pytest.raises((TypeError, ValueError), match=says):
        hundred.with_(**change(hundred))


# ---- images in files
def rows(im):
    return torch.tensor(list(im.convert("L").tobytes())).view(im.size[::-1]).float()


def test_central_squares_and_random_parts():
    # 40 rows, 60 columns, brighter to the right
    stripes = torch.arange(60.0).repeat(40, 1).mul(4).byte()
    img = Image.fromarray(torch.stack([stripes] * 3, 2).numpy())
    assert centre(img, 14).size == (14, 14) and resized_crop()(img, 16).size == (16, 16)
    mid = rows(centre(img, 14)).mean(0)
    # the middle, not a corner
    assert (mid - (mid.flip(0).neg() + 2 * mid.mean())).abs().max() < 3
    assert abs(mid.mean() - stripes.float().mean()) < 3
    torch.manual_seed(0)
    views = [rows(resized_crop(flip=False)(img, 8)).mean(0) for _ in range(40)]
    # never mirrored
    assert all(v[-1] > v[0] for v in views)
    torch.manual_seed(0)
    views = [rows(resized_crop()(img, 8)).mean(0) for _ in range(40)]
    # mirrored about half the time; narrow parts and wide ones
    assert 8 < sum(v[-1] < v[0] for v in views) < 32
    widths = [(v[-1] - v[0]).abs().item() for v in views]
    assert min(widths) < 110 < max(widths)


@pytest.fixture
def folder(tmp_path):
    "24 images of different sizes in two classes, in train/ and val/"
    for part, n in (("train", 20), ("val", 4)):
        for k in range(n):
            to = tmp_path / part / ("cat", "dog")[k % 2]
            to.mkdir(parents=True, exist_ok=True)
            shape = (20 + k, 30, 3)
            noise = torch.randint(256, shape, dtype=torch.uint8, generator=generator(k))
            Image.fromarray(noise.numpy()).save(to / f"{k:02}.png")
    return tmp_path


@pytest.fixture
def stream(folder):
    files, y = sorted((folder / "train").rglob("*.png")), torch.arange(20) // 10
    kw = dict(batch_size=6, shuffle=True, augment=resized_crop(), seed=1, size=16)
    return Stream(files, y, ("cat", "dog"), **kw)


def test_workers_do_not_change_a_stream(stream):
    s, state = stream, torch.get_rng_state()
    whole, rest = list(s.epoch(2)), list(s.with_(workers=2).epoch(2, start=2))
    found = (len(whole), len(rest), len(s), tuple(whole[0][0].shape))
    assert found == (4, 2, 4, (6, 3, 16, 16))
    for (x1, y1), (x2, y2) in zip(whole[2:], rest):
        assert torch.equal(x1, x2) and torch.equal(y1, y2)
    assert torch.equal(torch.get_rng_state(), state)
    first, second = (torch.cat([v for v, _ in s.with_(shuffle=False).epoch(e)]) for e in (0, 1))
    assert not torch.equal(first, second)


def test_a_stream_in_memory_and_in_parts(stream):
    fixed = stream.with_(shuffle=False, augment=None)
    assert torch.equal(torch.cat([v for v, _ in fixed]), fixed.loaded().tensors()[0])
    assert fixed.loaded().x.dtype == torch.uint8 and torch.equal(stream.tensors()[1], stream.y)
    assert (stream.n, stream.c, stream.shape) == (20, 2, (3, 16, 16))
    few = stream.subset(6)
    assert few.y.bincount().tolist() == [3, 3] and set(few.files) < set(stream.files)
    rest, held = stream.hold_out(4)
    assert sorted(rest.files + held.files) == stream.files


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_file_is_named(stream, folder, workers):
    bad = folder / "bad.png"
    bad.write_bytes(stream.files[0].read_bytes()[:200])
    with pytest.raises(OSError, match="bad.png is no readable image"):
        list(stream.with_(files=[bad] + stream.files[1:], workers=workers))
    with pytest.raises(ValueError, match="19 images but 20 labels"):
        stream.with_(files=stream.files[1:])


def test_batches_of_others_are_unpacked(stream):
    fixed = stream.with_(shuffle=False, augment=None)
    x, y = next(iter(fixed))
    # an empty batch, another dtype and shape
    loader = [dict(image=x[:0], label=y[:0]), dict(image=x, label=y.int()[:, None])]
    ((x1, y1),) = Pairs(loader)
    assert torch.equal(x1, x) and torch.equal(y1, y)
    assert torch.equal(in_memory(loader).x, fixed.loaded().x[:6])


# ---- sets by name
def test_bundled_digits():
    x, y, names = bundled_digits()
    found = (x.shape, x.dtype, x.min(), x.max(), y.shape, len(names))
    assert found == ((1797, 1, 8, 8), torch.uint8, 0, 255, (1797,), 10)
    # all 17 grey values survive as bytes
    assert (x.float() / 255 * 16).round().unique().tolist() == list(range(17))


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100", "svhn", "stl10"])
def test_an_empty_folder_says_how_to_get_the_set(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no {name} in .*`spat_nb data {name}`"):
        open_part(name, tmp_path, "train", False)


def test_rubbish_in_the_place_of_a_set(tmp_path):
    (tmp_path / "train_32x32.mat").write_bytes(b"rubbish")
    with pytest.raises(ValueError, match="is incomplete or damaged"):
        open_part("svhn", tmp_path, "train", False)


def test_parts_of_a_folder(folder, tmp_path_factory):
    train, val = folder_parts(folder, size=16)
    files = [str(f) for f in sorted((folder / "train").rglob("*.png"))]
    assert (train.n, val.n, train.classes, train.files) == (20, 4, ("cat", "dog"), files)
    # the classes stand in the folder itself
    assert [p.n for p in folder_parts(folder / "train", size=16)] == [20]
    (folder / "test" / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match="a class without images"):
        folder_parts(folder)
    (folder / "test" / "cat" / "0.png").write_bytes((folder / "val/cat/00.png").read_bytes())
    with pytest.raises(ValueError, match="each part needs a folder for every class"):
        folder_parts(folder)
    with pytest.raises(FileNotFoundError, match="no folders of images in"):
        folder_parts(tmp_path_factory.mktemp("empty"))


def keys(x, y):
    return sorted(bytes(v.flatten().tolist()) + bytes([label]) for v, label in zip(x, y))


def test_three_parts_of_digits():
    data = get_data("digits", device="cpu")
    train, valid, test = data
    assert [p.n for p in data] == [1257, 180, 360] and [p.shape for p in data] == [(1, 8, 8)] * 3
    assert train.classes == tuple("0123456789")
    assert valid.y.bincount().tolist() == [18] * 10 and test.y.bincount().tolist() == [36] * 10
    assert [p.shuffle for p in data] == [True, False, False]
    assert [p.augment for p in data] == [None] * 3
    # nobody lost, nobody twice
    x, y, _ = bundled_digits()
    assert keys(torch.cat([p.x for p in data]), torch.cat([p.y for p in data])) == keys(x, y)
    # another seed: the same parts, in another order
    again = get_data("digits", device="cpu", seed=5)
    assert torch.equal(again.valid.x, valid.x) and torch.equal(again.train.x, train.x)
    assert not torch.equal(torch.cat(again.train.indices()), torch.cat(train.indices()))
    other = get_data("digits", device="cpu", split=1)
    assert torch.equal(other.test.x, test.x) and not torch.equal(other.valid.x, valid.x)


def test_few_images():
    shift = crop_flip(1, False)
    few = get_data("digits", device="cpu", n=50, valid=0, batch_size=8, augment=shift)
    found = (few.train.n, few.valid.n, few.test.n, len(few.train), few.train.augment)
    assert found == (50, 0, 360, 7, shift)
    assert few.train.y.bincount().tolist() == [5] * 10


def test_a_folder_by_name(folder):
    f = get_data("imagefolder", device="cpu", root=folder, size=16, batch_size=4)
    assert [p.n for p in f] == [16, 4, 4]
    assert f.train.augment == resized_crop() and f.test.augment is None
    lone = get_data("imagefolder", device="cpu", root=folder / "train", size=16)
    assert [p.n for p in lone] == [13, 3, 4]
    inside = get_data("imagefolder", device="cpu", root=folder, size=16, stream=False)
    assert inside.test.x.shape == (4, 3, 16, 16) and inside.train.augment == crop_flip(2)
    assert torch.equal(inside.test.tensors()[0], f.test.tensors()[0])


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: get_data("cifar"), r"did you mean 'cifar10'\?"),
        (lambda: get_data("imagenet"), r"did you mean 'imagefolder'\?"),
        (lambda: get_data("xyz"), "known are digits, mnist"),
        (lambda: get_data("digits", valid=1437), "choose between 0 and 1436"),
    ],
)
def test_one_sentence_where_a_set_cannot_be_opened(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_an_array_file(tmp_path):
    import numpy as np

    # 30 images, 16 high, 12 wide, in colour
    images = torch.randint(256, (30, 16, 12, 3), dtype=torch.uint8, generator=generator(0)).numpy()
    labels, mine = np.arange(30) % 3, tmp_path / "mine.npz"
    parts = dict(y_train=labels[:20], x_test=images[20:], y_test=labels[20:])
    np.savez(mine, x_train=images[:20], classes=np.array(["ant", "bee", "cow"]), **parts)
    d = get_data(mine, device="cpu")
    found = (d.train.n, d.valid.n, d.test.n, d.test.shape, d.test.classes)
    assert found == (16, 4, 10, (3, 16, 12), ("ant", "bee", "cow"))
    # row 5, column 7: the same colour
    assert d.test.x[0, :, 5, 7].tolist() == images[20, 5, 7].tolist()
    assert d.train.augment == crop_flip(1)
    assert torch.equal(get_data("mine", root=tmp_path, device="cpu").test.x, d.test.x)
    np.savez(mine, x_train=images[:20].transpose(0, 3, 1, 2), **parts)
    with pytest.raises(ValueError, match=r"x_train has shape \(20, 3, 16, 12\)"):
        get_data(mine)


# ---- why there are three parts, and why digits are not shifted
def test_the_best_of_many_on_test_images_looks_better_than_it_is():
    g, (_, valid, test) = generator(0), get_data("digits", device="cpu")

    def guesses(part):
        return (torch.randint(10, (200, part.n), generator=g) == part.y).float().mean(1)

    on_test, on_valid = guesses(test), guesses(valid)
    best = on_test.topk(20).indices  # one second look may deceive, the mean of twenty does not
    assert on_test.max() > 0.12
    assert abs(on_valid[best].mean() - 0.1) < abs(on_test[best].mean() - 0.1)


def test_a_shift_that_digits_do_not_need_costs_robustness():
    train, _, test = get_data("digits", device="cpu")

    def trained(augment):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, 2, 1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 16, 10),
        )
        b = train.with_(augment=augment, batch_size=64)
        opt = torch.optim.AdamW(net.parameters(), 2e-3)
        for e in range(15):
            for x, y in b.epoch(e):
                opt.zero_grad()
                F.cross_entropy(net(x), y).backward()
                opt.step()
        return net.eval()

    def accuracies(net):
        x, y = test.tensors()
        x.requires_grad_()
        (g,) = torch.autograd.grad(F.cross_entropy(net(x), y), x)
        attacked = (x + 0.1 * g.sign()).clamp(0, 1)
        return [(net(v).argmax(1) == y).float().mean() for v in (x, attacked)]

    as_they_are, shifted = accuracies(trained(None)), accuracies(trained(crop_flip(1, False)))
    assert as_they_are[1] > shifted[1] + 0.1
    assert abs(as_they_are[0] - shifted[0]) < 0.03
