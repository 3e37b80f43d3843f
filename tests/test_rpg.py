"""What a network tells of its training images: scores by counting, gradients by a loop, and what
multiplying the logits does
"""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spat_nb import Linf, at_x, get_data, pgd, zoo
from spat_nb.app.cli import main
from spat_nb.core.rng import generator
from spat_nb.measure.report import Report
from spat_nb.papers.rpg import best_threshold, gradient_norms, membership, privacy

data = get_data("digits", device="cpu", batch_size=64)
x, y = data.test.subset(20).tensors()
inner = pgd(Linf(0.15), 3, start=at_x)


@pytest.fixture
def net():
    return zoo.load("digits/pgd_at/w16", "cpu").train()


def by_counting(members, others):
    "The best score over all thresholds, one by one"
    best = 0.0
    for t in sorted({*members.tolist(), *others.tolist(), 2.0}):
        found = sum(v >= t for v in members.tolist()) / len(members)
        best = max(best, (found + sum(v < t for v in others.tolist()) / len(others)) / 2)
    return best


@pytest.mark.parametrize("seed", range(4))
def test_the_best_threshold_by_counting(seed):
    g = generator(seed)
    members = torch.randint(0, 6, (9,), generator=g) / 5  # many equal values
    others = torch.randint(0, 6, (7,), generator=g) / 5
    t, score = best_threshold(members, others)
    assert score == pytest.approx(by_counting(members, others))
    found = (members >= t).double().mean() + (others < t).double().mean()
    assert found.item() / 2 == pytest.approx(score)


def test_membership_that_is_plain_or_absent():
    far = membership(torch.rand(40, generator=generator(0)) + 2, torch.rand(40), generator(1))
    assert far["optimistic"] == 1.0 and far["split"] > 0.9
    g = generator(2)
    seen = [membership(*torch.rand(2, 30, generator=g), g) for _ in range(200)]
    split, optimistic = (sum(d[k] for d in seen) / 200 for k in ("split", "optimistic"))
    assert abs(split - 0.5) < 0.02 and optimistic > 0.55


def test_gradients_are_those_of_a_loop(net):
    mine = gradient_norms(net, x, y, chunk=7)
    assert net.training  # left as it was
    net.eval()
    for i in range(len(x)):
        loss = F.cross_entropy(net(x[i : i + 1]), y[i : i + 1])
        g = torch.autograd.grad(loss, list(net.parameters()))
        want = torch.cat([v.flatten() for v in g]).norm()
        assert torch.allclose(mine[i], want, rtol=1e-3, atol=1e-7)


def test_frozen_weights_do_not_count(net):
    whole = gradient_norms(net, x, y)
    for p in list(net.parameters())[:-2]:
        p.requires_grad_(False)
    assert (gradient_norms(net, x, y) < whole).all()


class Times(nn.Module):
    "The same answers, other confidences"

    def __init__(self, model, c):
        super().__init__()
        self.model, self.c = model, c

    def forward(self, x):
        return self.c * self.model(x)


def test_intensity_hangs_on_the_scale_of_the_logits(net):
    told = {c: privacy(Times(net, c), data, inner, 100, generator(0)) for c in (1e-3, 1.0)}
    assert told[1e-3]["loudest"] < told[1.0]["loudest"] / 10
    # all probabilities near 1/10: every image is as loud as every other
    assert told[1e-3]["intensity"] == pytest.approx(1.0, abs=0.7)
    assert told[1.0] == privacy(net, data, inner, 100, generator(0))


def test_a_report_says_it_too(tmp_path, capsys):
    "The same numbers as from Python, in the file, on the page and in the shell"
    out = tmp_path / "out"
    typed = "evaluate digits/pgd_at/w16 --ball Linf(.1) --attacks fgsm --n-test 40 --device cpu"
    assert main([*typed.split(), "--privacy", "--report", str(out)]) == 0
    net, digits = zoo.load("digits/pgd_at/w16", "cpu"), get_data("digits", device="cpu")
    judged = SimpleNamespace(train=digits.train, test=digits.test.subset(40))
    attack = pgd(Linf(0.1), 10, generator=generator(0))
    told = privacy(net, judged, attack, generator=generator(0))
    report = Report.load(out)
    assert report.privacy == pytest.approx(told)
    assert f"a score of {told['split']:.3f}" in capsys.readouterr().out
    assert "tells training images from others" in (out / "report.html").read_text(encoding="utf-8")


def test_privacy_needs_training_images(tmp_path, capsys):
    code = "from spat_nb import get_data\nit = get_data('digits', device='cpu').test.tensors()\n"
    (tmp_path / "mine.py").write_text(code)
    typed = ["evaluate", "digits/pgd_at/w16", "--data", f"{tmp_path}/mine.py:it", "--privacy"]
    assert main([*typed, "--ball", "Linf(.1)", "--device", "cpu"]) == 1
    assert "--privacy" in capsys.readouterr().err
