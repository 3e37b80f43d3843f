"""A device that is not there: its tensors live on the CPU, but say that they are elsewhere and
refuse to meet the CPU's, as a GPU's do. What forgets to bring a tensor along fails on it by name.
Speed, streams, autocast and compilation it cannot tell: those need a GPU.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)


class _Module(_DummyBackendModule):
    # autocast asks, even where it is off
    def get_amp_supported_dtype(self):
        return [torch.bfloat16]


_setup_privateuseone_for_python_backend("pretend", _Module())
DEVICE, CPU = torch.device("pretend:0"), torch.device("cpu")
_Generator, _drawn = torch.Generator, {}
RESHAPE = {
    f"aten::{k}_" for k in ("squeeze", "unsqueeze", "t", "transpose", "swapaxes", "swapdims")
}


class Generator(_Generator):
    "A random stream that belongs to one of the two devices"

    def __new__(cls, device=CPU):
        g = super().__new__(cls, CPU)
        g.home = DEVICE if torch.device(device).type == "pretend" else CPU
        _drawn[g._cdata] = g
        return g

    device = property(lambda self: self.home)


class There(torch.Tensor):
    "A tensor on the device; `v` is where its numbers really are"

    @staticmethod
    def __new__(cls, v):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            v.shape,
            strides=v.stride(),
            storage_offset=v.storage_offset(),
            dtype=v.dtype,
            layout=v.layout,
            device=DEVICE,
        )

    def __init__(self, v):
        self.v = v

    def __repr__(self):
        return f"There({self.v})"

    def __deepcopy__(self, memo):
        new = self.detach().clone().requires_grad_(self.requires_grad)
        return (
            torch.nn.Parameter(new, self.requires_grad)
            if isinstance(self, torch.nn.Parameter)
            else new
        )

    def __format__(self, spec):
        return format(self.item(), spec) if not self.ndim else repr(self)

    def tolist(self):
        return self.cpu().tolist()

    def numpy(self, **kw):
        raise TypeError(
            "can't convert a tensor on the pretended device to numpy; use .cpu() first."
        )

    def __array__(self, *a, **kw):
        return self.numpy()

    @classmethod
    def __torch_dispatch__(cls, f, types, args=(), kwargs=None):
        return _call(f, args, kwargs or {})


def _meet(name, args, kwargs):
    """RuntimeError where tensors of both devices meet; as on a GPU, single numbers and the
    positions of an index may come from the CPU
    """
    there = [v for v in tree_leaves((args, kwargs)) if isinstance(v, There)]
    here = [
        v
        for v in tree_leaves((args, kwargs))
        if isinstance(v, torch.Tensor) and not isinstance(v, There) and v.ndim
    ]
    if there and here and name not in ("aten::_to_copy", "aten::copy_"):
        positions = (
            tree_leaves(args[1])
            if "index" in name
            and len(args) > 1
            and isinstance(args[0], There)
            and isinstance(args[1], (list, tuple))
            else []
        )
        if not all(any(v is p for p in positions) for v in here):
            raise RuntimeError(f"{name}: tensors on the CPU and on the pretended device meet.")
    g = kwargs.get("generator")
    home = getattr(_drawn.get(g._cdata), "home", CPU) if g is not None else None
    on = (
        torch.device(kwargs["device"])
        if kwargs.get("device") is not None
        else DEVICE
        if there
        else CPU
    )
    if home and home.type != on.type:
        raise RuntimeError(f"{name}: a generator on {home} cannot draw for {on}.")


def _call(f, args, kwargs):
    name, asked = f._schema.name, kwargs.get("device")
    asked = None if asked is None else torch.device(asked)
    _meet(name, args, kwargs)
    ours = {id(v.v): v for v in tree_leaves((args, kwargs)) if isinstance(v, There)}

    def inside(v):
        return v.v if isinstance(v, There) else v

    out = f(
        *tree_map(inside, args),
        **{**tree_map(inside, kwargs), **({"device": CPU} if asked else {})},
    )
    # the outside takes the new shape too
    if name in RESHAPE and ours:
        with torch._C._DisableTorchDispatch():
            f(*args, **kwargs)
    # from there to here
    stays = name == "aten::copy_" and not isinstance(args[0], There)
    if (
        stays
        or (asked or (DEVICE if ours else CPU)).type == "cpu"
        or name == "aten::_local_scalar_dense"
    ):
        return args[0] if stays else out
    # what worked in place comes back itself
    return tree_map(
        lambda v: (
            (ours[id(v)] if id(v) in ours else There(v)) if isinstance(v, torch.Tensor) else v
        ),
        out,
    )


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, f, types, args=(), kwargs=None):
        return _call(f, args, kwargs or {})


def pretend():
    "A context in which `device='pretend'` works"
    torch.Generator = Generator
    return _Mode()
