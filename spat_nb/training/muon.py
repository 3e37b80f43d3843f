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
        "In torch's form: Muon's weights are numbered first, then those of SGD"
        states: dict = {}
        groups, first = [], 0
        for inner in self.inner.values():
            told = inner.state_dict()
            states |= {first + k: v for k, v in told["state"].items()}
            groups += told["param_groups"]
            first += len(told["param_groups"][0]["params"])
        return {"state": states, "param_groups": groups}

    def load_state_dict(self, state):
        first = 0
        for inner, group in zip(self.inner.values(), state["param_groups"]):
            n = len(group["params"])
            mine = {k - first: v for k, v in state["state"].items() if first <= k < first + n}
            inner.load_state_dict({"state": mine, "param_groups": [group]})
            first += n
