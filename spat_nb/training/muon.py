"""Muon for matrices, SGD for the rest: an optimiser slot

torch's Muon takes matrices alone. A convolution is one when all that a channel sees is one row.
"""

from __future__ import annotations

import torch
from torch import nn

from .schedule import sgd

__all__ = ["muon"]


class muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for weights of two and more dimensions, SGD with momentum for the
    rest: their learning rate is that of the run

    Parameters
    ----------
    params
        weights
    lr : float
        learning rate of SGD, > 0
    share : float
        Muon's learning rate, as a share of it; chosen on validation digits (default: 0.5)
    momentum : float
        of Muon; torch's default
    decay : float
        Muon's weight decay; torch's default
    """

    def __init__(
        self,
        params,  # weights
        lr: float,  # learning rate of SGD, > 0
        share: float = 0.5,  # Muon's learning rate, as a share of it; chosen on validation digits
        momentum: float = 0.95,  # of Muon; torch's default
        decay: float = 0.1,  # Muon's weight decay; torch's default
    ):
        super().__init__(params, {"lr": lr})
        weights = [p for g in self.param_groups for p in g["params"]]
        self.share = share
        # copies: the memory of a weight may be laid out anew, channels last say
        self.flat = {p: nn.Parameter(p.detach().flatten(1).clone()) for p in weights if p.ndim > 1}
        # (optimiser, weight of the network -> what the optimiser moves)
        self.inner: list[tuple[torch.optim.Optimizer, dict]] = []
        if self.flat:
            matrices = torch.optim.Muon(
                self.flat.values(), lr=lr, momentum=momentum, weight_decay=decay
            )
            self.inner.append((matrices, self.flat))
        if rest := {p: p for p in weights if p.ndim <= 1}:
            self.inner.append((sgd(rest, lr=lr), rest))

    @torch.no_grad()
    def step(self, closure=None):
        lr = self.param_groups[0]["lr"]
        for p, flat in self.flat.items():
            flat.copy_(p.flatten(1))
            flat.grad = None if p.grad is None else p.grad.flatten(1)
        for inner, moved in self.inner:
            inner.param_groups[0]["lr"] = self.share * lr if moved is self.flat else lr
            inner.step()
            self.state.update({p: inner.state[q] for p, q in moved.items() if q in inner.state})
        for p, flat in self.flat.items():
            p.copy_(flat.view_as(p))

    def load_state_dict(self, state):
        super().load_state_dict(state)
        for inner, moved in self.inner:
            inner.state.update({q: self.state[p] for p, q in moved.items() if p in self.state})
