"""Is a network loaded right? Planted mistakes are named, and right networks are left in peace"""

import pytest
import torch
from torch import nn

from spat_nb.app import zoo
from spat_nb.data.batches import Batches
from spat_nb.data.sources import get_data
from spat_nb.measure.labelling import relabelling
from spat_nb.measure.loading import check_loading
from spat_nb.measure.readings import KNOWN_NORMALISATIONS, readings
from spat_nb.models.adapters import adapt
from spat_nb.models.layers import Normalize
from spat_nb.models.networks import SmallCNN

IMAGENET, HALF = KNOWN_NORMALISATIONS.values()
N = 256


class Squares(nn.Module):
    """Reads ten colours exactly, without training: the class is the nearest of ten colours

    So a reading of the pixels is right or wrong by algebra alone.
    """

    def __init__(self, colours):
        super().__init__()
        self.register_buffer("colours", colours)

    def forward(self, x):
        mean = x.mean((2, 3))
        return -(mean[:, None] - self.colours).square().sum(2)


class Before(nn.Module):
    "A network behind a change of its pixels"

    def __init__(self, change, net):
        super().__init__()
        self.change, self.net = change, net

    def forward(self, x):
        return self.net(self.change(x))


class Relabelled(nn.Module):
    def __init__(self, net, order):
        super().__init__()
        self.net, self.order = net, order

    def forward(self, x):
        return self.net(x)[:, self.order]


def normal(mean, std):
    return Normalize(3, mean, std)


def undone(mean, std):
    m, s = (torch.tensor(v).view(1, -1, 1, 1) for v in (mean, std))
    return lambda x: x * s + m


def flip(x):
    return x.flip(1)


@pytest.fixture(scope="module")
def coloured():
    "Images of ten colours with noise, left half darker, and the network that reads them"
    g = torch.Generator().manual_seed(0)
    colours = torch.rand(10, 3, generator=g)
    y = torch.arange(N) % 10
    x = colours[y][:, :, None, None] + 0.02 * torch.randn(N, 3, 8, 8, generator=g)
    return Squares(colours).eval(), (x.clamp(0, 1), y)


# name -> (the network around the right one, the normalisation the user gave, words of the claim)
PLANTED = {
    "ImageNet's is missing": (
        lambda t: Before(undone(*IMAGENET), t),
        None,
        "normalised by ImageNet",
    ),
    "0.5 is missing": (lambda t: Before(undone(*HALF), t), None, "normalised by mean and std 0.5"),
    "it normalises by itself": (lambda t: Before(normal(*IMAGENET), t), IMAGENET, "plain pixels"),
    "plain was wanted": (lambda t: Before(normal(*HALF), t), HALF, "plain pixels"),
    "0.5 for ImageNet's": (
        lambda t: Before(nn.Sequential(normal(*HALF), Undone(*IMAGENET)), t),
        HALF,
        "normalised by ImageNet",
    ),
    "ImageNet's for 0.5": (
        lambda t: Before(nn.Sequential(normal(*IMAGENET), Undone(*HALF)), t),
        IMAGENET,
        "normalised by mean and std 0.5",
    ),
    "blue first": (lambda t: Before(flip, t), None, "blue, green, red"),
    "bytes": (lambda t: Before(lambda x: x / 255, t), None, "pixels from 0 to 255"),
    "bytes and blue first": (
        lambda t: Before(lambda x: x.flip(1) / 255, t),
        None,
        "pixels from 0 to 255, blue first",
    ),
    "normalised twice": (lambda t: Before(normal(*IMAGENET), t), None, "once less by ImageNet"),
    "inverted": (lambda t: Before(lambda x: 1 - x, t), None, "bright for dark"),
    "permuted": (
        lambda t: Relabelled(t, [3, 0, 2, 1, 9, 8, 4, 5, 7, 6]),
        None,
        "labels look permuted",
    ),
    "shifted": (
        lambda t: Relabelled(t, [*range(1, 10), 0]),
        None,
        "every label stands 1 further ahead",
    ),
    "a class for the background in front": (
        lambda t: Relabelled(t, [9, *range(9)]),
        None,
        "every label stands 1 further back",
    ),
    "reversed": (
        lambda t: Relabelled(t, [*range(10)][::-1]),
        None,
        "labels look permuted: 0 stands at output 9",
    ),
}


class Undone(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        self.f = undone(mean, std)

    def forward(self, x):
        return self.f(x)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mistake_is_named(name, coloured):
    net, data = coloured
    wrong, normalisation, words = PLANTED[name]
    found = check_loading(wrong(net), data, normalisation)
    assert words in found.mistake, found
    assert found.mend and found.mend in str(found) and "PROBABLY" in str(found)


def test_the_right_network_is_left_in_peace(coloured):
    net, data = coloured
    found = check_loading(net, data)
    assert not found.mistake and found.accuracy == 1.0
    for given in (IMAGENET, HALF):
        mended = Before(nn.Sequential(normal(*given), Undone(*given)), net)
        assert not check_loading(mended, data, given).mistake
    assert "as far as can be seen" in str(found)


def test_twelve_networks_as_shipped_are_left_in_peace():
    digits = get_data("digits").test
    right = [n for n in zoo.names() if n.startswith("digits/")]
    assert len(right) >= 12
    for name in right:
        found = check_loading(zoo.load(name), digits)
        assert not found.mistake, (name, found)


def test_no_weights_were_loaded():
    digits = get_data("digits").test
    torch.manual_seed(0)
    data = (torch.rand(200, 1, 8, 8), torch.arange(200) % 10)  # labels that nothing can know
    found = check_loading(SmallCNN(10, channels=1), data)
    assert "better than chance" in found.mistake
    assert "trained weights" in found.mend
    assert digits.n > 0


def test_black_images():
    digits = get_data("digits").test
    x, y = digits.tensors()
    found = check_loading(zoo.load("digits/standard/w16"), (x / 255, y))
    assert found.mistake == "the images are black" and "twice" in found.mend


def test_a_reading_undoes_what_stands_before():
    "What the network itself gets is what the name says"
    x = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    want = {
        "plain pixels from 0 to 1": x,
        "pixels from 0 to 255": 255 * x,
        "pixels normalised by mean and std 0.5": 2 * x - 1,
        "blue, green, red for red, green, blue": undo_of(IMAGENET, x.flip(1)),
        "plain pixels from 0 to 1, blue first": x.flip(1),
    }
    mean, std = (torch.tensor(v, dtype=x.dtype).view(1, 3, 1, 1) for v in IMAGENET)
    found = {r.name: (r.pixels(x) - mean) / std for r in readings((3, 4, 4), IMAGENET)}
    for name, value in want.items():
        assert torch.allclose(found[name], value, atol=1e-12), name
    assert not any("ImageNet" in name for name in found)  # that is what stands there


def undo_of(given, x):
    mean, std = (torch.tensor(v, dtype=x.dtype).view(1, 3, 1, 1) for v in given)
    return (x - mean) / std


def test_grey_images_for_a_network_of_three_channels():
    "They go into all channels, each with a normalisation of its own"
    x = torch.rand(2, 1, 4, 4, dtype=torch.float64)
    mean, std = (torch.tensor(v, dtype=x.dtype).view(1, 3, 1, 1) for v in IMAGENET)
    found = {r.name: (r.pixels(x) - mean) / std for r in readings((1, 4, 4), IMAGENET)}
    want = {"plain pixels from 0 to 1": x, "pixels normalised by mean and std 0.5": 2 * x - 1}
    for name, value in want.items():
        assert torch.allclose(found[name], value.expand(-1, 3, -1, -1), atol=1e-12), name
    assert not any("blue" in name for name in found)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 10))
    digits = get_data("digits").test
    model = adapt(net, digits.subset(4).tensors()[0], mean="imagenet", channels=3)
    assert check_loading(model, digits, IMAGENET).n == 256


def test_grey_and_oblong_images_have_fewer_readings():
    names = [r.name for r in readings((1, 4, 6))]
    assert not any("blue" in n or "ImageNet" in n or "rows" in n for n in names)
    assert "pixels normalised by mean and std 0.5" in names


def test_a_permutation_that_explains_little_leaves_the_weights_open(coloured):
    "Random weights tell some classes apart too, in an order of their own"
    net, data = coloured
    order = [1, 0, *range(2, 10)]
    assert "trained weights" not in check_loading(Relabelled(net, order[::-1]), data).mend

    class Half(nn.Module):
        def forward(self, x):
            z = net(x).roll(1, 1)
            z[::2] = torch.eye(10)[torch.zeros(len(z[::2]), dtype=torch.long)]
            return z

    found = check_loading(Half(), data)
    assert "permuted" in found.mistake and "check that trained weights" in found.mend


def test_labels_are_doubted_on_images_that_did_not_choose_the_order():
    g = torch.Generator().manual_seed(1)
    doubted = 0
    for _ in range(200):
        y = torch.randint(10, (100,), generator=g)
        doubted += relabelling(torch.randint(10, (100,), generator=g), y) is not None
    assert doubted <= 3  # 1 in 1000 and less; more than 3 of 200 happens once in 10,000 tries


def test_classes_have_their_names(coloured):
    net, (x, y) = coloured
    data = Batches((x * 255).round().byte(), y, tuple("abcdefghij"))
    found = check_loading(Relabelled(net, [1, 0, *range(2, 10)]), data)
    assert "a stands at output 1, b stands at output 0" in found.mistake


def test_numbers_that_were_sorted_as_texts():
    "0, 1, 10, 11, ..., 2: too many classes to learn their order, and a usual one"
    as_text = torch.tensor(sorted(range(200), key=str))
    y = torch.arange(200)
    found = relabelling(as_text.argsort()[y], y)
    assert found is not None and found.order == tuple(as_text.argsort().tolist())
    assert found.accuracy == 1.0 and "labels more" in found.words()


class Marked(nn.Module):
    "Wrong where the first pixel is red; else reads how bright the last row is"

    def forward(self, x):
        z = -(10 * x[:, :1, -1].mean(2) - torch.arange(10)).square()
        return torch.where((x[:, 0, 0, 0] > 0.5)[:, None], -z, z)


def marked(n, red=0, blue=0):
    "Grey images; every `red`-th ten of them has a red first pixel, every `blue`-th a blue one"
    y = torch.arange(n) % 10
    x = (y / 10).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).clone()
    ten = torch.arange(n) // 10
    x[:, :, 0, 0] = 0
    if red:
        x[ten % red == 1, 0, 0, 0] = 1
        x[ten % blue == 3, 2, 0, 0] = 1
    return x, y


def test_more_images_are_looked_at_where_256_do_not_tell():
    "130 and 70 are wrong in one reading alone: chance in a quarter of them, none in all"
    assert not check_loading(Marked(), marked(250, 8, 16)).mistake
    found = check_loading(Marked(), marked(1000, 8, 16))
    assert found.n == 1000 and "blue, green, red" in found.mistake
    assert not check_loading(Marked(), marked(1000, 8, 8)).mistake


def test_images_in_the_order_of_their_classes():
    "The first 256 of them are of one class, which says nothing of the rest"
    x, y = marked(1000)
    order = y.argsort(stable=True)
    assert not check_loading(Marked(), (x[order], y[order])).mistake
    stream = [(x[order][i : i + 64], y[order][i : i + 64]) for i in range(0, 1000, 64)]
    assert not check_loading(Marked(), stream, n=64).mistake


def test_random_numbers_do_not_change_a_thing(coloured):
    net, data = coloured
    net.train()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    check_loading(net, data)
    assert torch.equal(state, torch.get_rng_state()) and net.training
    net.eval()


def test_the_table_has_the_best_first(coloured):
    net, data = coloured
    table = check_loading(Before(flip, net), data).table()
    assert table.index[0] == "blue, green, red for red, green, blue"
    assert table.accuracy.is_monotonic_decreasing and "as it is" in table.index


def test_no_images():
    with pytest.raises(ValueError, match="no images"):
        check_loading(SmallCNN(10, channels=1), [])


@pytest.mark.parametrize("n,c", [(1, 2), (3, 3), (6, 2), (12, 3)])
def test_few_images_accuse_no_network(n, c):
    x = torch.rand(n, 3, 8, 8, generator=torch.manual_seed(0))
    y = torch.arange(n) % c
    x[:, 0, 0, 0] = y / 255  # the class is told by one pixel

    def right(v):
        told = (v[:, 0, 0, 0] * 255).round().clamp(0, c - 1).long()
        return 3 * torch.nn.functional.one_hot(told, c).float()

    def constant(v):
        return 3 * torch.eye(c)[[0] * len(v)]

    for model in (right, constant):
        assert not check_loading(model, (x, y)).mistake
    assert "too few to tell it from chance" in check_loading(constant, (x, y)).evidence or n == 1


def test_many_images_at_chance_are_still_a_mistake():
    x = torch.rand(120, 3, 8, 8, generator=torch.manual_seed(0))
    found = check_loading(lambda v: 3 * torch.eye(3)[[0] * len(v)], (x, torch.arange(120) % 3))
    assert found.mistake == "no reading of the pixels is better than chance"
