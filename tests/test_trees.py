"""Trees of tensors in files: every value comes back, and a damaged file is called so"""

import math
import os
import pickle
from pathlib import Path

import torch
from fastcore.test import test_eq as same_value
from fastcore.test import test_fail as fails
from safetensors.torch import save_file
from torch import Tensor, nn

from spat_nb.core.files import _flatten, load_tree, save_tree

torch.set_num_threads(1)
t = torch.tensor


def bits(v):
    return v.detach().contiguous().flatten().view(torch.uint8) if v.ndim else bits(v[None])


def same(a, b):
    if isinstance(a, Tensor):
        return (
            isinstance(b, Tensor)
            and (a.dtype, a.shape) == (b.dtype, b.shape)
            and torch.equal(bits(a), bits(b))
        )
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or a != a and b != b)  # NaN is NaN


base = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def a_tree():
    "Everything that a checkpoint may hold"
    dtypes = [
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
        torch.complex64,
    ]
    tree = {
        "dtypes": {str(d): (base * 9).to(d) for d in dtypes},
        "rng": torch.get_rng_state(),
        "zero_dim": [t(3), t(True), t(0.5).bfloat16()],
        "none_at_all": [torch.empty(0), torch.empty(2, 0, 3).half()],
        "views": [
            base.T,
            base[::2],
            base[1],
            base.expand(2, 6, 4),
            torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
        ],
        "shared": [base, base],
        "learned": nn.Parameter(base),
        "values": [
            1,
            -(2**70),
            0.1,
            1e-300,
            math.nan,
            math.inf,
            -math.inf,
            True,
            False,
            None,
            "",
            'Grüße\n"quoted" \\ 图',
        ],
        "odd": t([math.nan, -0.0, math.inf]),
        "empty": [{}, []],
        7: {0: {"step": t(1.0)}, -1: None},
        "__tensor__": "a key of yours",
        "__metadata__": t(4),
        "a/b": t(1),
        "a": {"b": t(2)},
        "": {"": t(3)},
    }
    return tree


class Greeting:
    def __reduce__(self):
        return print, ("this line was printed by opening a file",)


bad = pickle.dumps(Greeting())


def test_names_of_tensors_in_a_tree():
    flat = {}
    same_value(
        _flatten({"net": {"w": t([1.0, 2.0])}, "epoch": 3, "seen": ["a", t(7)]}, flat),
        {
            "net": {"w": {"__tensor__": "net/w"}},
            "epoch": 3,
            "seen": ["a", {"__tensor__": "seen/1"}],
        },
    )
    same_value(list(flat), ["net/w", "seen/1"])
    same_value(_flatten({0: "x"}, {}), {"__pairs__": [(0, "x")]})
    flat = {}
    _flatten({"a/b": t(1), "a": {"b": t(2)}}, flat)
    same_value(list(flat), ["a/b", "a/b_"])
    fails(lambda: _flatten({"run": [1, Path("x")]}, {}), exc=TypeError, contains="run/1 is a")


def test_round_trip(tmp_path):
    tree = a_tree()
    save_tree(tmp_path / "all.safetensors", tree)
    back = load_tree(tmp_path / "all.safetensors")
    # others may read it
    mask = os.umask(0)
    os.umask(mask)
    same_value((tmp_path / "all.safetensors").stat().st_mode & 0o777, 0o666 & ~mask)
    for k in tree:
        assert same([tree[k]] if k != "learned" else [tree[k].detach()], [back[k]]), k
    same_value(list(back), list(tree))
    for root in (base, [base, [1]], 5, None, {}):
        save_tree(tmp_path / "root.safetensors", root)
        assert same(root, load_tree(tmp_path / "root.safetensors"))
    # a tuple comes back as a list
    save_tree(tmp_path / "root.safetensors", {"betas": (0.9, 0.999)})
    same_value(load_tree(tmp_path / "root.safetensors"), {"betas": [0.9, 0.999]})


def test_what_is_loaded_is_a_copy(tmp_path):
    save_tree(tmp_path / "all.safetensors", a_tree())
    back = load_tree(tmp_path / "all.safetensors")
    back["shared"][0].add_(1)
    assert same(back["shared"][1], base)
    assert same(load_tree(tmp_path / "all.safetensors")["shared"], [base, base])
    before = (tmp_path / "all.safetensors").read_bytes()
    fails(
        lambda: save_tree(tmp_path / "all.safetensors", {"model": nn.Linear(1, 1)}),
        exc=TypeError,
        contains="model is a Linear; a tree holds dicts",
    )
    fails(
        lambda: save_tree(tmp_path / "all.safetensors", {"x": {(1, 2): 3}}),
        exc=TypeError,
        contains="x has the key (1, 2)",
    )
    same_value((tmp_path / "all.safetensors").read_bytes(), before)


def test_damaged_files(tmp_path):
    save_tree(tmp_path / "all.safetensors", a_tree())
    before = (tmp_path / "all.safetensors").read_bytes()
    cut, n = tmp_path / "cut.safetensors", len(before)
    for k in [0, 1, 7, 8, 9, 100, n // 2, n - 1]:
        cut.write_bytes(before[:k])
        fails(
            lambda: load_tree(cut),
            exc=ValueError,
            contains="cut.safetensors is damaged or cut short",
        )
    cut.write_bytes(before + b"more")
    fails(lambda: load_tree(cut), exc=ValueError, contains="damaged")
    for write in (
        lambda f: torch.save({"w": base}, f),
        lambda f: torch.save({"w": base}, f, _use_new_zipfile_serialization=False),
        lambda f: f.write_bytes(bad),
    ):
        write(cut)
        fails(
            lambda: load_tree(cut), exc=ValueError, contains="is a pickle, and pickles can run code"
        )
    save_file({"w": base}, cut)
    fails(lambda: load_tree(cut), exc=ValueError, contains="that spat_nb did not write")
    cut.write_text('{"w": [1, 2]}')
    fails(lambda: load_tree(cut), exc=ValueError, contains="is a JSON file and no safetensors file")
    for nowhere in (tmp_path / "none", tmp_path):
        fails(lambda: load_tree(nowhere), exc=FileNotFoundError, contains="check the path")


def test_every_flipped_bit_of_a_header(tmp_path):
    cut = tmp_path / "cut.safetensors"
    save_tree(cut, {"w": t([1.0, 2.0]), 7: {"note": "x"}})
    whole = bytearray(cut.read_bytes())
    opened = 0
    for k in range(len(whole) - 8):
        for bit in range(8):
            whole[k] ^= 1 << bit
            cut.write_bytes(whole)
            whole[k] ^= 1 << bit
            try:
                load_tree(cut)
                opened += 1
            except ValueError as e:
                assert str(e).startswith(str(cut)), e
    assert 0 < opened < 8 * (len(whole) - 8)


def test_files_that_only_look_like_a_pickle(tmp_path):
    cut = tmp_path / "cut.safetensors"
    first = set()
    for k in range(0, 256, 4):
        save_tree(cut, {"note": "x" * k})
        first.add(cut.read_bytes()[0])
        same_value(load_tree(cut), {"note": "x" * k})
        cut.write_bytes(cut.read_bytes()[:-1])
        fails(lambda: load_tree(cut), exc=ValueError, contains="damaged or cut short")
    # lengths are multiples of 8
    assert 0x80 in first and len(first) == 32
