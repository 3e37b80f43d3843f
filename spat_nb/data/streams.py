"""Images in files, read when they are asked for"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..core.checks import check_labels
from .batches import Batches, ImageSet
from .draws import rng
from .images import read_image
from .vision import torchvision

__all__ = ["resized_crop", "centre", "Stream"]


@dataclass(frozen=True)
class resized_crop:
    """A random part of the image, `scale` of its area, resized, and a mirror image half the time
    (Szegedy et al. 2015)

    Parameters
    ----------
    scale : tuple
        smallest and largest share of the area (default: (0.08, 1.0))
    flip : bool
        mirror left and right with probability 1/2 (default: True)
    """

    scale: tuple = (0.08, 1.0)  # smallest and largest share of the area
    flip: bool = True  # mirror left and right with probability 1/2

    def __call__(self, img, size):
        v2 = torchvision("transforms.v2")
        return v2.RandomHorizontalFlip(0.5 * self.flip)(v2.RandomResizedCrop(size, self.scale)(img))


def centre(
    img,  # a PIL image, or a tensor (...,h,w)
    size: int,  # height and width of the square, in pixels
):
    """The central square, after the shorter side was resized to 8/7 of `size`; an image that has
    this size already stays as it is

    Parameters
    ----------
    img
        a PIL image, or a tensor (...,h,w)
    size : int
        height and width of the square, in pixels
    """
    if img.size == (size, size):
        return img
    v2 = torchvision("transforms.v2")
    return v2.CenterCrop(size)(v2.Resize(round(size * 8 / 7))(img))


class _Views(torch.utils.data.Dataset):
    """Image `i` of epoch `e` as bytes, the same whichever worker makes it; a text where the file is
    damaged
    """

    def __init__(self, s, e):
        self.s, self.e = s, e

    def __len__(self):
        return self.s.n

    def __getitem__(self, i):
        s = self.s
        try:
            img = read_image(s.files[i])
        except OSError as e:
            return str(e)
        # torchvision draws from torch's CPU generator
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(rng(s.seed, self.e, i).initial_seed())
            return torchvision("transforms.v2.functional").pil_to_tensor(
                (s.augment or centre)(img, s.size)
            )


def _stack(images):
    return next((x for x in images if isinstance(x, str)), None) or torch.stack(images)


@dataclass(eq=False, repr=False)
class Stream(ImageSet):
    """Images that stay in their files and are read by workers while the network computes; otherwise
    like `Batches`. Read upright (EXIF), 16 bits by their range, transparent parts on white

    Parameters
    ----------
    files : list
        n paths
    y : Tensor
        (n,) int64 labels
    classes : tuple
        c class names
    batch_size : int
        images per batch; the last one may be smaller (default: 128)
    shuffle : bool
        a new order in each epoch (default: False)
    augment : Callable | None
        (PIL image, size) -> image of size x size, draws from torch's generator; None: `centre`
        (default: None)
    seed : int
        of order and augmentation (default: 0)
    size : int
        height and width of the batches, in pixels (default: 224)
    workers : int
        processes that read ahead; 0: none (default: 0)
    device : str
        where the batches go (default: "cpu")
    """

    files: list  # n paths
    y: Tensor  # (n,) int64 labels
    classes: tuple  # c class names
    batch_size: int = 128  # images per batch; the last one may be smaller
    shuffle: bool = False  # a new order in each epoch
    # (PIL image, size) -> image of size x size, draws from torch's generator; None: `centre`
    augment: Callable | None = None
    seed: int = 0  # of order and augmentation
    size: int = 224  # height and width of the batches, in pixels
    workers: int = 0  # processes that read ahead; 0: none
    device: str = "cpu"  # where the batches go

    def __post_init__(self):
        check_labels(self.y, len(self.files))
        self._check()

    @property
    def shape(self):
        return (3, self.size, self.size)

    def take(self, i):
        return replace(self, files=[self.files[j] for j in i.tolist()], y=self.y[i])

    def epoch(self, e=0, start=0):
        """The batches of epoch `e`; image i is a function of (seed, e, i) alone.

        Raises
        ------
        OSError
            where a file is no image
        """
        idx = self.indices(e, start)
        loader = torch.utils.data.DataLoader(
            _Views(self, e),
            batch_sampler=[i.tolist() for i in idx],
            num_workers=self.workers,
            collate_fn=_stack,
            pin_memory=str(self.device).startswith("cuda"),
            generator=rng(self.seed, e, "workers"),
        )
        for i, x in zip(idx, loader):
            if isinstance(x, str):
                raise OSError(x)
            yield x.to(self.device, non_blocking=True).float() / 255, self.y[i].to(self.device)

    def loaded(
        self,
        augment: Callable | None = None,  # of the result: (x float, generator) -> x
    ) -> Batches:
        """Read all files once, central squares, and keep them as bytes on the device

        Parameters
        ----------
        augment : Callable | None
            of the result: (x float, generator) -> x (default: None)

        Returns
        -------
        Batches
        """
        x = [
            (x * 255).round().byte() for x, _ in self.with_(shuffle=False, augment=None).epoch()
        ] or [torch.empty(0, *self.shape, dtype=torch.uint8)]
        return Batches(
            torch.cat(x),
            self.y.to(self.device),
            self.classes,
            self.batch_size,
            self.shuffle,
            augment,
            self.seed,
        )

    def tensors(self):
        "All images at once; mind the memory"
        return self.loaded().tensors()
