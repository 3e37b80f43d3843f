"""Certificates on a report: what is proved, set beside what attacks left"""

import pytest
import torch
from torch import nn

from spat_nb import Linf, get_data, judge, pgd, zoo
from spat_nb.app.report_page import write_report
from spat_nb.measure.cases import Cases
from spat_nb.measure.proved import Proved
from spat_nb.measure.report import Report

BALL = Linf(0.05)


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def images(n=90):
    g = torch.Generator().manual_seed(1)
    # far from the box, which a linear bound does not look at
    x = 0.3 + 0.4 * torch.rand(n, 1, 4, 4, generator=g)
    return x, torch.arange(n) % 3


def distance(net, x, y):
    "Linf distance to the nearest other class: margin over the length of the weights' difference"
    w, b = net[1].weight.double(), net[1].bias.double()
    z = x.flatten(1).double() @ w.T + b
    own = z.gather(1, y[:, None])
    length = (w[y][:, None] - w[None]).abs().sum(2)
    d = (own - z) / length.clamp_min(1e-30)
    return d.scatter(1, y[:, None], torch.inf).amin(1)


@pytest.fixture(scope="module")
def report():
    return judge(linear(), images(), BALL, {"pgd": pgd(BALL, 20)}, certify=True, progress=False)


def test_a_linear_network_leaves_no_gap(report):
    net = linear()
    x, y = images()
    d = distance(net, x, y)
    assert (d - BALL.eps).abs().min() > 1e-4  # no image sits on the edge
    stands = d > BALL.eps
    assert 5 < int(stands.sum()) < 85
    assert torch.equal(report.proved.tensor(), stands)
    gap = report.gap()
    assert gap.gap.abs().max() == 0 and gap.loc["all", "certified"] == stands.double().mean().item()
    assert "certified <= true robust accuracy <=" in report.body()


def test_a_file_keeps_the_proofs(report, tmp_path):
    report.save(tmp_path / "it.json")
    again = Report.load(tmp_path / "it.json")
    assert again.proved == Proved("crown", report.proved.certified)
    assert again.gap().equals(report.gap())


def test_the_page_shows_them_class_by_class(report, tmp_path):
    write_report(report, tmp_path, Cases())
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Certified, true, attacked" in page and "Nothing was proved" not in page
    assert "Bounds through the layers (crown)" in page
    assert "Certified, true, attacked" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_of_a_part_the_same_images_are_proved():
    test = get_data("digits", device="cpu").test
    net = zoo.load("digits/pgd_at/w16", "cpu")
    ball = Linf(0.04)
    judged = dict(attacks="pgd(steps=5)", certify="crown-ibp", progress=False)
    whole = judge(net, test, ball, **judged)
    part = judge(net, test, ball, within=0.2, **judged)
    assert 0 < len(part.proved.certified) == len(part.record.y) < len(whole.record.y)
    proved = dict(zip(whole.record.marks.tolist(), whole.proved.certified))
    assert [proved[m] for m in part.record.marks.tolist()] == list(part.proved.certified)


class Odd(nn.Module):
    def forward(self, x):
        return torch.cumsum(x.flatten(1), 1)[:, :3]


@pytest.mark.parametrize(
    "model, data, by, said",
    [
        (lambda x: x.flatten(1)[:, :3], images(), True, "a proof needs its layers"),
        (linear(), images(), "magic", "certify is 'magic'; it is one of lipschitz, ibp"),
        (linear(), iter([images()]), True, "may come only once"),
        (Odd(), images(), True, "no bound is written for the function cumsum"),
    ],
)
def test_what_cannot_be_proved_is_refused_before_any_attack(model, data, by, said):
    def attack(model, x, y):
        raise AssertionError("it was attacked")

    with pytest.raises((TypeError, ValueError), match=said):
        judge(model, data, BALL, {"mine": attack}, certify=by, progress=False)
