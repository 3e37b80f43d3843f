"""A file of the reader's own as an image for a network"""

from __future__ import annotations

import io
from dataclasses import dataclass

import torch
from torch import Tensor


def _opened(data, name):
    "The file as an upright RGB image. ValueError where it is none"
    from PIL import Image

    from spat_nb.data.images import to_rgb, upright

    try:
        with Image.open(io.BytesIO(data)) as f:
            return to_rgb(upright(f))
    except Exception as e:
        raise ValueError(
            f"{name} is no image that can be read ({type(e).__name__}); give a PNG or JPEG file."
        ) from None


def _tensor(img):
    "An image of PIL as (1,ch,h,w), pixels in [0,1]"
    flat = torch.frombuffer(bytearray(img.tobytes()), dtype=torch.uint8)
    return flat.view(1, img.height, img.width, -1).permute(0, 3, 1, 2).float() / 255


def ink_for(img):
    "A grey image, white on black, cropped to the ink and padded to a square"
    from PIL import Image, ImageOps

    small = _tensor(img.resize((16, 16), Image.Resampling.BOX))[0, 0]
    rim = torch.cat([small[0], small[-1], small[:, 0], small[:, -1]]).mean()
    img = ImageOps.autocontrast(ImageOps.invert(img) if rim > 0.5 else img)
    box = img.point(lambda v: 255 * (v > 100)).getbbox()
    if box is None:
        return None
    img = img.crop(box)
    side = max(img.size)
    return ImageOps.pad(img, (side, side), color=0)


def own_image(
    data: bytes,  # a PNG, JPEG, ... file
    shape: tuple,  # (ch,h,w) of the network's images
    name="the file",  # for the error
) -> Tensor:  # (1,ch,h,w) pixels in [0,1]
    """A file as an image of this shape; with one channel: white ink on black, filling the frame.

    Parameters
    ----------
    data : bytes
        a PNG, JPEG, ... file
    shape : tuple
        (ch,h,w) of the network's images
    name
        for the error (default: "the file")

    Returns
    -------
    Tensor
        (1,ch,h,w) pixels in [0,1]

    Raises
    ------
    ValueError
        where it is no image, or shows nothing
    """
    from PIL import Image, ImageOps

    ch, h, w = shape
    img = _opened(data, name).convert("L" if ch == 1 else "RGB")
    if ch == 1:
        img = ink_for(img)
    if img is None or img.getextrema() in ((0, 0), (255, 255)):
        raise ValueError(f"{name} is one even tone; give an image with something on it.")
    return _tensor(ImageOps.fit(img, (w, h), Image.Resampling.BOX))


def looks_like_photograph(
    data: bytes,  # a PNG, JPEG, ... file
    name="the file",  # for the error
) -> bool:
    """Does no tone fill most of the frame? A drawing is ink on paper, and most of it is paper.

    Parameters
    ----------
    data : bytes
        a PNG, JPEG, ... file
    name
        for the error (default: "the file")

    Returns
    -------
    bool

    Raises
    ------
    ValueError
        where it is no image
    """
    from PIL import Image

    small = _opened(data, name).convert("RGB").resize((48, 48), Image.Resampling.BOX)
    pixels = _tensor(small)[0].flatten(1).T
    paper = pixels.median(0).values
    # paper is lit unevenly, so a wide band of tones is still paper
    near = ((pixels - paper).abs().amax(1) < 0.2).double().mean().item()
    return near < 0.6


@dataclass(frozen=True)
class OwnFile:
    """A file that the reader has given

    Parameters
    ----------
    name : str
        of the file
    data : bytes
        what is in it
    """

    name: str  # of the file
    data: bytes  # what is in it

    def image(
        self,
        shape: tuple,  # (ch,h,w) of the network's images
    ) -> Tensor:  # (1,ch,h,w) pixels in [0,1]
        "The file as an image of this shape. ValueError where it is none"
        return own_image(self.data, shape, self.name)

    @property
    def is_photograph(self) -> bool:
        "Does it look like a photograph, rather than like ink on paper?"
        return looks_like_photograph(self.data, self.name)

    def told(
        self,
        has_label: bool,  # did the reader name its class?
        reads_digits: bool,  # do the networks read digits, and nothing else?
    ) -> str:
        "What a reader should know of it"
        said = f"Your file {self.name}"
        if not has_label:
            said += ", taken for what the network says"
        if not reads_digits:
            return f"{said}."
        if self.is_photograph:
            return (
                f"{said}. It looks like a photograph, but these networks read digits: they see a"
                " digit in everything. A CIFAR-10 network reads photographs."
            )
        return f"{said}, read as a digit: ink on paper."
