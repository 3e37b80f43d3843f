"Which images were answered right: a bit for each, as text"

from __future__ import annotations

import base64

import torch

__all__ = ["bits", "unpacked", "solved"]


def bits(
    right: torch.Tensor,  # (n,) bool
) -> str:
    "Eight images to a byte, in base64"
    import numpy as np

    return base64.b64encode(np.packbits(right.cpu().numpy()).tobytes()).decode()


def unpacked(
    text: str,  # eight images to a byte, in base64
    n: int,  # images
) -> torch.Tensor:  # (n,) bool
    "Which images were answered right. ValueError where the text does not hold n answers"
    import numpy as np

    raw = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    if len(raw) != -(-n // 8):
        raise ValueError(
            f"{len(raw)} bytes hold the answers, not those to {n} images; "
            "the file is damaged, run the study again."
        )
    return torch.from_numpy(np.unpackbits(raw, count=n).astype(bool))


def solved(
    run: dict,  # a result, as written
    attack: str = "aa",
) -> torch.Tensor | None:  # (n,) bool
    "Which images its network answers right under an attack; None where that was not kept"
    value = run["attacks"].get(attack, {})
    return unpacked(value["right"], value["n"]) if "right" in value else None
