"""What a machine is called in reports"""

from __future__ import annotations

import platform

import torch

__all__ = ["device_name"]


def device_name(
    device,  # torch.device; None: the CPU
) -> str:
    "What stands in a report: the GPU's name, or 'cpu, x86_64'"
    if device is not None and device.type == "cuda":
        return torch.cuda.get_device_name(device)
    kind = device.type if device is not None else "cpu"
    return f"{kind}, {platform.machine()}"
