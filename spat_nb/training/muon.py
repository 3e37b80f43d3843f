"""Muon for matrices, SGD for the rest: an optimiser slot

torch's Muon takes matrices alone. A convolution is one when all that a channel sees is one row.
"""

from __future__ import annotations

import torch

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
        Muon's learning rate, as a share of it; chosen on validation digits (default: 0.2)
    momentum : float
        of Muon; torch's default (default: 0.95)
    decay : float
        Muon's weight decay; torch's default (default: 0.1)
    """

    def __init__(
        self,
        params,  # weights
        lr: float,  # learning rate of SGD, > 0
        share: float = 0.2,  # Muon's learning rate, as a share of it; chosen on validation digits
        momentum: float = 0.95,  # of Muon; torch's default
        decay: float = 0.1,  # Muon's weight decay; torch's default
    ):
        super().__init__(params, {"lr": lr})
        weights = [p for g in self.param_groups for p in g["params"]]
        self.share = share
        self.whole = [p for p in weights if p.ndim > 1]
        # copies: the memory of a weight may be laid out anew, channels last say
        self.flat = [torch.nn.Parameter(p.detach().flatten(1).clone()) for p in self.whole]
        self.inner: dict[str, torch.optim.Optimizer] = {}
        if self.flat:
            self.inner["muon"] = torch.optim.Muon(
                self.flat, lr=lr, momentum=momentum, weight_decay=decay
            )
        if rest := [p for p in weights if p.ndim <= 1]:
            self.inner["sgd"] = torch.optim.SGD(
                rest, lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4
            )

    @torch.no_grad()
    def step(self, closure=None):
        lr = self.param_groups[0]["lr"]
        for name, inner in self.inner.items():
            for group in inner.param_groups:
                group["lr"] = self.share * lr if name == "muon" else lr
        for flat, p in zip(self.flat, self.whole):
            flat.copy_(p.flatten(1))
            flat.grad = None if p.grad is None else p.grad.flatten(1)
        for inner in self.inner.values():
            inner.step()
        for flat, p in zip(self.flat, self.whole):
            p.copy_(flat.view_as(p))

    def state_dict(self):
        return {k: inner.state_dict() for k, inner in self.inner.items()}

    def load_state_dict(self, state):
        for k, inner in self.inner.items():
            inner.load_state_dict(state[k])
