"""Planted faults: models with one known thing wrong in what they answer. Plant one in your own"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from ..core.protocols import ModelFunction

__all__ = ["Fault", "Times", "Softmax", "Dice", "Awake", "Searcher", "Decoy"]


class Fault(nn.Module):
    "A model around a model"

    def __init__(
        self,
        model: ModelFunction,  # pixels (b,ch,h,w) in [0,1] to logits (b,c)
    ):
        super().__init__()
        self.model = model


class Times(Fault):
    "The same answers, other logits"

    def __init__(
        self,
        model: ModelFunction,  # pixels to logits
        s: float = 256.0,  # the factor on the logits, above 0
    ):
        super().__init__(model)
        self.s = s

    def forward(self, x):
        return self.s * self.model(x)


class Softmax(Fault):
    "Probabilities instead of logits"

    def forward(self, x):
        return self.model(x).softmax(1)


class Dice(Fault):
    "A dropout that was left on"

    def forward(self, x):
        return self.model(nn.functional.dropout(x, 0.1, training=True))


class Awake(Fault):
    "It calls train() itself, so `model` is a module; batch norm looks at the neighbours"

    def forward(self, x):
        cast(nn.Module, self.model).train()
        return self.model(x)


class Searcher(Fault):
    "It cleans its input by a step of its own before it answers"

    def forward(self, x):
        with torch.enable_grad():
            x_ = x.detach().requires_grad_()
            g = torch.autograd.grad(self.model(x_).logsumexp(1).sum(), x_)[0]
        return self.model((x + 0.01 * g.sign()).clamp(0, 1))


class Decoy(Times):
    "One class more, always a little below the highest; and loud logits"

    def forward(self, x):
        z = self.s * self.model(x)
        return torch.cat([z, z.amax(1, keepdim=True) - 0.01], 1)
