"Alternating flips: both faces of each image in any two epochs, whatever the order and the kills"

import pytest
import torch

from spat_nb import (
    AlternatingFlips,
    Learner,
    Recipe,
    SmallCNN,
    crop_flip,
    get_data,
    standard,
    train,
)
from spat_nb.training.flips import mirrored

data = get_data("digits", device="cpu", batch_size=64)
images = data.train.subset(200).with_(augment=None)


class Seen:
    "An objective that keeps what it is shown"

    def __init__(self):
        self.x = []

    def __call__(self, model, x, y, attack):
        self.x.append(x)
        return standard(model, x, y, attack)


def shown(epochs, seed=0, start=0, images=images):
    "(epochs, n) bool: was image i mirrored in epoch e?"
    seen = Seen()
    torch.manual_seed(0)
    flips = AlternatingFlips()
    learner = Learner(
        SmallCNN(channels=1, width=2), images, seen, None, epochs, callbacks=[flips], seed=seed
    )
    learner.epoch = start
    learner.fit()
    out = torch.zeros(epochs - start, images.n, dtype=torch.bool)
    for e in range(start, epochs):
        steps = seen.x[(e - start) * len(images) : (e - start + 1) * len(images)]
        for i, x in zip(images.indices(e), steps, strict=True):
            own = images.x[i].float() / 255
            same = (x == own).flatten(1).all(1)
            other = (x == own.flip(-1)).flatten(1).all(1)
            assert bool((same ^ other).all())
            out[e - start, i] = other
    return out


def test_both_faces_in_any_two_epochs():
    seen = shown(4)
    assert torch.equal(seen[1], ~seen[0])
    assert torch.equal(seen[2], seen[0]) and torch.equal(seen[3], seen[1])
    # 200 draws of a fair coin: six standard deviations to either side
    assert 57 < seen[0].sum() < 143


def test_the_seed_draws_which_begin_mirrored():
    one, again, other = shown(1)[0], shown(1)[0], shown(1, seed=1)[0]
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_a_run_that_goes_on_sees_what_it_would_have_seen():
    assert torch.equal(shown(3, start=2)[0], shown(3)[2])


def test_mirrors_from_left_to_right():
    x = torch.arange(24.0).view(2, 1, 3, 4)
    out = mirrored(x, torch.tensor([True, False]))
    assert out[0, 0, 0].tolist() == [3, 2, 1, 0] and torch.equal(out[1], x[1])


def test_an_augmentation_that_mirrors_is_refused():
    both = images.with_(augment=crop_flip(1))
    learner = Learner(SmallCNN(channels=1), both, standard, callbacks=[AlternatingFlips()])
    with pytest.raises(ValueError, match="give it flip=False beside"):
        learner.fit()


def test_two_of_them_are_refused():
    twice = [AlternatingFlips(), AlternatingFlips()]
    learner = Learner(SmallCNN(channels=1), images, standard, callbacks=twice)
    with pytest.raises(ValueError, match="two mirrors are none; give one"):
        learner.fit()


def test_a_recipe_names_it(tmp_path):
    recipe = Recipe(
        data="digits",
        objective="standard",
        callbacks="AlternatingFlips",
        augment="crop_flip(pad=1, flip=False)",
        epochs=1,
        n=100,
    )
    assert train(recipe, out=tmp_path / "a").model is not None
