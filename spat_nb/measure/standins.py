"What stands in for a hidden gradient: a network within, one that was taught, an average"

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spat_nb.attacks.threat import Ball

from ..attacks.attack import pgd
from ..attacks.losses import margin
from ..core.protocols import ModelFunction
from ..core.tensors import logits
from ..models.networks import SmallCNN

__all__ = ["Averaged", "averaged", "fitted", "inner_networks", "taught"]


class Averaged(nn.Module):
    "The mean answer to noisy copies; see `averaged`"

    def __init__(
        self,
        model: ModelFunction,  # pixels to logits
        ball: Ball,  # the noise fills it
        draws: int,  # copies of an image
    ):
        super().__init__()
        self.model, self.ball, self.draws = model, ball, draws

    def forward(self, x):
        shift = self.ball.uniform(x.detach().repeat(self.draws, *[1] * (x.ndim - 1)))
        noisy = x.repeat(self.draws, *[1] * (x.ndim - 1))
        noisy = noisy + (shift - noisy.detach())
        return logits(self.model, noisy).view(self.draws, len(x), -1).mean(0)


def averaged(
    model: ModelFunction,  # pixels (b,ch,h,w) in [0,1] to logits (b,c)
    ball: Ball,  # threat model
    draws: int = 16,  # copies of an image
) -> Averaged:
    """The mean answer to copies that are moved at random by up to a quarter of the radius: ripples
    that are shorter leave its gradient

    Parameters
    ----------
    model : ModelFunction
        pixels (b,ch,h,w) in [0,1] to logits (b,c)
    ball : Ball
        threat model
    draws : int
        copies of an image (default: 16)

    Returns
    -------
    Averaged
    """
    return Averaged(model, replace(ball, eps=ball.eps / 4), draws)


def inner_networks(
    model: ModelFunction,  # pixels (b,ch,h,w) in [0,1] to logits (b,c)
    x: Tensor,  # (b,ch,h,w) pixels in [0,1]
    share: float = 0.5,  # of the images on which it must agree, in [0,1]
) -> list:  # of names, as in `named_modules`
    "Networks within the model that take the same images and mostly give the same answers"
    found: list[str] = []
    modules = dict(model.named_modules()) if isinstance(model, nn.Module) else {}
    with torch.no_grad():
        z = logits(model, x)
        for name, module in modules.items():
            if not name or any(name.startswith(f"{k}.") for k in found):
                continue
            try:
                answer = module(x)
            except Exception:  # a layer that takes no images says so in its own way
                continue
            if not isinstance(answer, Tensor) or answer.shape != z.shape:
                continue
            if (answer.argmax(1) == z.argmax(1)).double().mean() >= share:
                found.append(name)
    return found


def _told(z):
    "Probabilities of answers whose logits were brought to a scale at which they can be learnt"
    top = z.topk(2, 1).values
    lead = (top[:, 0] - top[:, 1]).median().clamp_min(1e-6)
    return (4 * (z - top[:, :1]) / lead).softmax(1)


def _answers(model, x):
    with torch.no_grad():
        return torch.cat([logits(model, b).float() for b in x.split(256)])


def taught(
    net: nn.Module,  # trained in place
    n: int,  # images that there are
    loss: Callable,  # (net, positions (b,)) -> ()
    epochs: int,  # passes over the images
    lr: float,  # of Adam
) -> nn.Module:  # in eval mode
    "Train a stand-in for a while; draws from torch's own stream"
    opt = torch.optim.Adam(net.parameters(), lr)
    device = next(net.parameters()).device
    net.train()
    for _ in range(epochs):
        for i in torch.randperm(n).to(device).split(64):
            if len(i) < 2:  # batch norm needs company
                continue
            opt.zero_grad()
            loss(net, i).backward()
            opt.step()
    return net.eval()


def fitted(
    model: ModelFunction,  # pixels (b,ch,h,w) in [0,1] to logits (b,c); only asked
    x: Tensor,  # (b,ch,h,w) pixels in [0,1]
    ball: Ball,  # around each image
    rounds: int = 3,  # each attacks the network, and asks the model about what comes out
    epochs: int = 8,  # passes over the images in each round
) -> nn.Module:  # in eval mode
    """A small network taught to answer like the model: on images moved at random in the ball, then
    on those that fool it itself (Papernot et al. 2017)

    Parameters
    ----------
    model : ModelFunction
        pixels (b,ch,h,w) in [0,1] to logits (b,c); only asked
    x : Tensor
        (b,ch,h,w) pixels in [0,1]
    ball : Ball
        around each image
    rounds : int
        each attacks the network, and asks the model about what comes out (default: 3)
    epochs : int
        passes over the images in each round (default: 8)

    Returns
    -------
    nn.Module
        in eval mode
    """
    asked = torch.cat([x, *(ball.uniform(x) for _ in range(2))])
    answers = _answers(model, asked)
    width = x.shape[1]
    net = SmallCNN(answers.shape[1], channels=width, width=16, size=min(x.shape[2:])).to(x.device)

    def learn(epochs, lr):
        x, told = asked, _told(answers)
        return taught(net, len(x), lambda f, i: F.cross_entropy(f(x[i]), told[i]), epochs, lr)

    with torch.enable_grad():
        for k in range(rounds):
            learn(epochs, 5e-3 / (1 + k))
            fooled = pgd(ball, 10, loss=margin)(net, x, answers[: len(x)].argmax(1))
            asked = torch.cat([asked, fooled])
            answers = torch.cat([answers, _answers(model, fooled)])
        return learn(epochs, 1e-3)
