"""What an object is: equal where source and values are equal, another where one of them is, in
every process, and quick
"""

import copy
import inspect
import json
import os
import re
import reprlib
import subprocess
import sys
import textwrap
import time
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from spat_nb.attacks.attack import pgd
from spat_nb.attacks.autoattack import autoattack
from spat_nb.attacks.balls import L2, Linf
from spat_nb.attacks.losses import ce, margin
from spat_nb.attacks.wrapped import smoothed
from spat_nb.core.digest import describe, digest
from spat_nb.core.identity import difference, fingerprint, made_of
from spat_nb.core.parts import Parts
from spat_nb.models.networks import PreActResNet18, SmallCNN


def module(folder, text, name="mine", file=True):
    "A module whose text lies in a file, or nowhere"
    m = type(sys)(name)
    path = folder / f"{name}.py" if file else "<string>"
    text = textwrap.dedent(text)
    if file:
        path.write_text(text)
        m.__file__ = str(path)
    exec(compile(text, str(path), "exec"), m.__dict__)
    return m


def two(folder, text, new, file=True):
    "`a` of a module before and after an edit"
    out = []
    for t in (text, new):
        m = module(folder, t, file=file)
        # looked at before the file is written again
        out.append((made_of(m.a), m))
    return [p for p, _ in out]


HEAD = "import torch, functools\nfrom dataclasses import dataclass\nfrom torch import nn\n"
# what stands there, what an editor makes of it, and what the difference must name
EDITS = {
    "body": ("def a(x): return x+1", "def a(x): return x+2", "function `a`"),
    "global constant": (
        "EPS = .1\ndef a(x): return x+EPS",
        "EPS = .2\ndef a(x): return x+EPS",
        "the global EPS was 0.1, now 0.2",
    ),
    "global of global": (
        "EPS = .1\ndef b(x): return EPS\ndef a(x): return b(x)",
        "EPS = .2\ndef b(x): return EPS\ndef a(x): return b(x)",
        "EPS",
    ),
    "helper": (
        "def b(x): return x\ndef a(x): return b(x)",
        "def b(x): return -x\ndef a(x): return b(x)",
        "function `b`",
    ),
    "global tensor": (
        "T = torch.arange(9)\ndef a(x): return x+T",
        "T = torch.arange(9)+1\ndef a(x): return x+T",
        "the global T has changed",
    ),
    "global dict": (
        "C = {'eps': .1}\ndef a(x): return x+C['eps']",
        "C = {'eps': .2}\ndef a(x): return x+C['eps']",
        "C.eps was 0.1, now 0.2",
    ),
    "global network": (
        "N = nn.Linear(2, 2, bias=False)\nnn.init.ones_(N.weight)\ndef a(x): return N(x)",
        "N = nn.Linear(2, 2, bias=False)\nnn.init.zeros_(N.weight)\ndef a(x): return N(x)",
        "N.weight",
    ),
    "default": (
        "def a(x, eps=.1): return x+eps",
        "def a(x, eps=.2): return x+eps",
        "the default eps of a was 0.1, now 0.2",
    ),
    "default by name": (
        "E = .1\ndef a(x, eps=E): return x+eps",
        "E = .2\ndef a(x, eps=E): return x+eps",
        "the default eps of a was 0.1, now 0.2",
    ),
    "keyword default": (
        "E = .1\ndef a(x, *, eps=E): return x+eps",
        "E = .2\ndef a(x, *, eps=E): return x+eps",
        "the default eps of a was 0.1, now 0.2",
    ),
    "default tensor": (
        "E = torch.ones(9)\ndef a(x, eps=E): return x+eps",
        "E = torch.zeros(9)\ndef a(x, eps=E): return x+eps",
        "the default eps",
    ),
    "closure": (
        "def make(e):\n def f(x): return x+e\n return f\na = make(.1)",
        "def make(e):\n def f(x): return x+e\n return f\na = make(.2)",
        "e of make",
    ),
    "nested function": (
        "def a(x):\n def inner(): return 1\n return x+inner()",
        "def a(x):\n def inner(): return 2\n return x+inner()",
        "function `a`",
    ),
    "global of nested": (
        "E = .1\ndef a(x): return [v for v in (lambda: E)()]",
        "E = .2\ndef a(x): return [v for v in (lambda: E)()]",
        "EPS|E was",
    ),
    "lambda": ("a = lambda x: x+1", "a = lambda x: x+2", "lambda"),
    "second lambda": (
        "f = [lambda x: x+1, lambda x: x+2]\na = f[1]",
        "f = [lambda x: x+1, lambda x: x+3]\na = f[1]",
        "lambda",
    ),
    "partial": (
        "def f(x, e): return x+e\na = functools.partial(f, e=.1)",
        "def f(x, e): return x+e\na = functools.partial(f, e=.2)",
        "e was 0.1, now 0.2",
    ),
    "partial of": (
        "def f(x, e): return x+e\na = functools.partial(f, e=.1)",
        "def f(x, e): return x-e\na = functools.partial(f, e=.1)",
        "function `f`",
    ),
    "partial in partial": (
        (
            "def f(x, g): return g(x)\ndef g(x, e): return x\na = functools.partial(f,"
            " g=functools.partial(g, e=1))"
        ),
        (
            "def f(x, g): return g(x)\ndef g(x, e): return x\na = functools.partial(f,"
            " g=functools.partial(g, e=2))"
        ),
        "g.e was 1, now 2",
    ),
    "callable class": (
        "class F:\n def __call__(self, x): return x\na = F()",
        "class F:\n def __call__(self, x): return -x\na = F()",
        "function `F.__call__`",
    ),
    "setting": (
        "class F:\n def __init__(self, e): self.e = e\n def __call__(self, x): return x\na = F(1)",
        "class F:\n def __init__(self, e): self.e = e\n def __call__(self, x): return x\na = F(2)",
        "e was 1, now 2",
    ),
    "private setting": (
        "class F:\n def __init__(self, e): self._e = e\na = F(1)",
        "class F:\n def __init__(self, e): self._e = e\na = F(2)",
        "_e was 1, now 2",
    ),
    "slots": (
        'class F:\n __slots__ = ("e",)\n def __init__(self, e): self.e = e\na = F(1)',
        'class F:\n __slots__ = ("e",)\n def __init__(self, e): self.e = e\na = F(2)',
        "e was 1, now 2",
    ),
    "class attribute": (
        "class F:\n e = 1\n def __call__(self, x): return x+self.e\na = F()",
        "class F:\n e = 2\n def __call__(self, x): return x+self.e\na = F()",
        "e of F was 1, now 2",
    ),
    "inherited method": (
        (
            "class G:\n def b(self, x): return x\nclass F(G):\n def __call__(self, x): return"
            " self.b(x)\na = F()"
        ),
        (
            "class G:\n def b(self, x): return -x\nclass F(G):\n def __call__(self, x): return"
            " self.b(x)\na = F()"
        ),
        "function `G.b`",
    ),
    "inherited attribute": (
        "class G: e = 1\nclass F(G): pass\na = F()",
        "class G: e = 2\nclass F(G): pass\na = F()",
        "e of G",
    ),
    "another base": (
        "class G: pass\nclass H: pass\nclass F(G): pass\na = F()",
        "class G: pass\nclass H: pass\nclass F(H): pass\na = F()",
        "class `F`",
    ),
    "property": (
        "class F:\n @property\n def e(self): return 1\na = F()",
        "class F:\n @property\n def e(self): return 2\na = F()",
        "function `F.e`",
    ),
    "cached property": (
        "class F:\n @functools.cached_property\n def e(self): return 1\na = F()",
        "class F:\n @functools.cached_property\n def e(self): return 2\na = F()",
        "function `F.e`",
    ),
    "static method": (
        "class F:\n @staticmethod\n def e(): return 1\na = F.e",
        "class F:\n @staticmethod\n def e(): return 2\na = F.e",
        "function `F.e`",
    ),
    "class method": (
        "class F:\n @classmethod\n def e(c): return 1\na = F.e",
        "class F:\n @classmethod\n def e(c): return 2\na = F.e",
        "function `F.e`",
    ),
    "bound method": (
        (
            "class F:\n def __init__(self, e): self.e = e\n def go(self, x): return x+self.e\na ="
            " F(1).go"
        ),
        (
            "class F:\n def __init__(self, e): self.e = e\n def go(self, x): return x+self.e\na ="
            " F(2).go"
        ),
        "__self__.e was 1, now 2",
    ),
    "patched on the instance": (
        "import types\nclass F:\n def go(self): return 1\na = F()",
        (
            "import types\nclass F:\n def go(self): return 1\na = F()\na.go ="
            " types.MethodType(lambda self: 2, a)"
        ),
        "go is new",
    ),
    "patched on the class": (
        "class F:\n def go(self): return 1\ndef g(self): return 2\na = F()",
        "class F:\n def go(self): return 1\ndef g(self): return 2\nF.go = g\na = F()",
        "go of F",
    ),
    "metaclass": (
        "class M(type):\n def __call__(c): return 1\nclass F(metaclass=M): pass\na = F",
        "class M(type):\n def __call__(c): return 2\nclass F(metaclass=M): pass\na = F",
        "M.__call__",
    ),
    "decorated": (
        (
            "def d(f):\n @functools.wraps(f)\n def g(*p): return f(*p)\n return g\n@d\ndef a(x):"
            " return x"
        ),
        (
            "def d(f):\n @functools.wraps(f)\n def g(*p): return f(*p)\n return g\n@d\ndef a(x):"
            " return -x"
        ),
        "function `a`",
    ),
    "decorator": (
        (
            "def d(f):\n @functools.wraps(f)\n def g(*p): return f(*p)\n return g\n@d\ndef a(x):"
            " return x"
        ),
        (
            "def d(f):\n @functools.wraps(f)\n def g(*p): return -f(*p)\n return g\n@d\ndef a(x):"
            " return x"
        ),
        "function `d.g`",
    ),
    "decorated by torch": (
        "@torch.no_grad()\ndef a(x): return x",
        "@torch.no_grad()\ndef a(x): return -x",
        "function `a`",
    ),
    "lru_cache": (
        "@functools.lru_cache\ndef a(x): return x",
        "@functools.lru_cache\ndef a(x): return -x",
        "function `a`",
    ),
    "dataclass field": (
        "@dataclass\nclass F:\n e: float = .1\n def __call__(self, x): return x\na = F()",
        "@dataclass\nclass F:\n e: float = .2\n def __call__(self, x): return x\na = F()",
        "e was 0.1, now 0.2",
    ),
    "dataclass method": (
        "@dataclass\nclass F:\n e: float = .1\n def __call__(self, x): return x\na = F()",
        "@dataclass\nclass F:\n e: float = .1\n def __call__(self, x): return -x\na = F()",
        "function `F.__call__`",
    ),
    "function attribute": (
        "def a(x): return x*a.k\na.k = 1",
        "def a(x): return x*a.k\na.k = 2",
        "k of a was 1, now 2",
    ),
    "deep container": (
        "a = [dict(k=(1, {2: [torch.ones(9)]}))]",
        "a = [dict(k=(1, {2: [torch.zeros(9)]}))]",
        r"\[0\].k\[1\]\[2\]\[0\]",
    ),
    "key": ("a = dict(p=1)", "a = dict(q=1)", "q"),
    "set": ('a = {1, 2, "x"}', 'a = {1, 2, "y"}', "it was"),
    "set of functions": (
        "def f(): return 1\na = {f, len}",
        "def f(): return 2\na = {f, len}",
        "it",
    ),
    "enum": (
        "import enum\nclass E(enum.Enum):\n A = 1\n B = 2\na = E.A",
        "import enum\nclass E(enum.Enum):\n A = 1\n B = 2\na = E.B",
        "E.A, now E.B",
    ),
    "enum value": (
        "import enum\nclass E(enum.Enum):\n A = 1\na = E.A",
        "import enum\nclass E(enum.Enum):\n A = 2\na = E.A",
        "A of E was 1, now 2",
    ),
    "named tuple": (
        "from typing import NamedTuple\nclass P(NamedTuple):\n e: int\na = P(1)",
        "from typing import NamedTuple\nclass P(NamedTuple):\n e: int\na = P(2)",
        "e was 1, now 2",
    ),
    "generator": (
        "a = torch.Generator().manual_seed(1)",
        "a = torch.Generator().manual_seed(2)",
        "seed 1, now",
    ),
    "numpy generator": (
        "import numpy\na = numpy.random.default_rng(1)",
        "import numpy\na = numpy.random.default_rng(2)",
        "seed",
    ),
    "array": (
        "import numpy\na = numpy.arange(9)",
        "import numpy\na = numpy.arange(9)+1",
        "it has changed",
    ),
    "autograd function": (
        (
            "class S(torch.autograd.Function):\n @staticmethod\n def forward(c, x): return x\n"
            " @staticmethod\n def backward(c, g): return g\na = S.apply"
        ),
        (
            "class S(torch.autograd.Function):\n @staticmethod\n def forward(c, x): return x\n"
            " @staticmethod\n def backward(c, g): return -g\na = S.apply"
        ),
        "S.backward",
    ),
    "forward": (
        "class N(nn.Module):\n def forward(self, x): return x\na = N()",
        "class N(nn.Module):\n def forward(self, x): return -x\na = N()",
        "function `N.forward`",
    ),
    "forward of a part": (
        "class N(nn.Module):\n def forward(self, x): return x\na = nn.Sequential(N())",
        "class N(nn.Module):\n def forward(self, x): return -x\na = nn.Sequential(N())",
        "function `N.forward`",
    ),
    "hook": (
        "a = nn.ReLU()\na.register_forward_hook(lambda m, i, o: o)",
        "a = nn.ReLU()\na.register_forward_hook(lambda m, i, o: 2*o)",
        "lambda",
    ),
    "a hook more": (
        "a = nn.ReLU()",
        "a = nn.ReLU()\na.register_forward_pre_hook(lambda m, i: i)",
        "hooks",
    ),
    "hidden buffer": (
        'a = nn.ReLU()\na.register_buffer("b", torch.ones(9), persistent=False)',
        'a = nn.ReLU()\na.register_buffer("b", torch.zeros(9), persistent=False)',
        "b has changed",
    ),
    "torch setting": ("a = nn.LeakyReLU(.1)", "a = nn.LeakyReLU(.2)", "0.1.*0.2"),
    "train mode": ("a = nn.ReLU()", "a = nn.ReLU().eval()", "train mode"),
    "module attribute": (
        'import types\nm = types.ModuleType("m")\nm.E = 1\ndef a(): return m.E',
        'import types\nm = types.ModuleType("m")\nm.E = 2\ndef a(): return m.E',
        "E was 1, now 2",
    ),
    "starred": ("def a(*x): return x", "def a(**x): return x", "function `a`"),
    "async": ("def a(): return 1", "async def a(): return 1", "function `a`"),
    "string": ('def a(): return "1"', "def a(): return 1", "function `a`"),
    "zero": ("a = 0.", "a = -0.", "0.0, now -0.0"),
    "integer": ("a = 1", "a = True", "1, now True"),
    "dtype": ("a = torch.zeros(9)", "a = torch.zeros(9).double()", "it"),
    "shape": ("a = torch.zeros(9)", "a = torch.zeros(3, 3)", "it"),
}


@pytest.mark.parametrize("file", [True, False], ids=["file", "typed"])
@pytest.mark.parametrize("case", EDITS)
def test_an_edit_is_seen_and_named(case, file, tmp_path):
    before, after, says = EDITS[case]
    a, b = two(tmp_path, HEAD + before, HEAD + after, file)
    again, _ = two(tmp_path, HEAD + before, HEAD + before, file)
    assert again == a and fingerprint(again) == fingerprint(a) and difference(again, a) == ""
    assert fingerprint(a) != fingerprint(b)
    told = difference(a, b)
    assert re.search(says, told), told
    # as a file keeps it
    assert "0x" not in str(a) and difference(json.loads(json.dumps(a)), b) == told


# odd corners of Python and torch, where it is enough that the edit is seen
MORE = {
    "vmap": (
        "import torch\na=torch.vmap(lambda x: x+1)",
        "import torch\na=torch.vmap(lambda x: x+2)",
    ),
    "functional grad": (
        "import torch\na=torch.func.grad(lambda x: x*1)",
        "import torch\na=torch.func.grad(lambda x: x*2)",
    ),
    "compile fn": (
        "import torch\na=torch.compile(lambda x: x*1)",
        "import torch\na=torch.compile(lambda x: x*2)",
    ),
    "checkpoint": (
        "import functools\nclass A:\n f=functools.partialmethod(lambda self,k: k, 1)\na=A()",
        "import functools\nclass A:\n f=functools.partialmethod(lambda self,k: k, 2)\na=A()",
    ),
    "singledispatch": (
        (
            "import functools\n@functools.singledispatch\ndef a(x): return 1\n@a.register\ndef _(x:"
            " int): return 2"
        ),
        (
            "import functools\n@functools.singledispatch\ndef a(x): return 1\n@a.register\ndef _(x:"
            " int): return 3"
        ),
    ),
    "itemgetter": (
        "import operator\na=operator.itemgetter(1)",
        "import operator\na=operator.itemgetter(2)",
    ),
    "map obj": ("a=map(lambda x: x, [1])", "a=map(lambda x: -x, [1])"),
    "getattr desc": (
        "class D:\n def __get__(s,o,t): return 1\nclass A: d=D()\na=A()",
        "class D:\n def __get__(s,o,t): return 2\nclass A: d=D()\na=A()",
    ),
    "super": (
        "class B:\n def f(s): return 1\nclass A(B):\n def f(s): return super().f()\na=A()",
        "class B:\n def f(s): return 2\nclass A(B):\n def f(s): return super().f()\na=A()",
    ),
    "weight norm": (
        (
            "import"
            " torch\ntorch.manual_seed(0)\na=torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(9,9))"  # noqa: E501
        ),
        "import torch\ntorch.manual_seed(0)\na=torch.nn.Linear(9,9)",
    ),
    "param user": (
        (
            "import torch\nfrom torch import nn\ntorch.manual_seed(0)\nclass P(nn.Module):\n def"
            " forward(s,x): return"
            ' x\na=nn.Linear(9,9)\nnn.utils.parametrize.register_parametrization(a,"weight",P())'
        ),
        (
            "import torch\nfrom torch import nn\ntorch.manual_seed(0)\nclass P(nn.Module):\n def"
            " forward(s,x): return"
            ' -x\na=nn.Linear(9,9)\nnn.utils.parametrize.register_parametrization(a,"weight",P())'
        ),
    ),
    "ParameterDict": (
        'import torch\na=torch.nn.ParameterDict({"x": torch.ones(9)})',
        'import torch\na=torch.nn.ParameterDict({"x": torch.zeros(9)})',
    ),
    "opt in closure": (
        "import torch\na=[torch.optim.SGD([torch.ones(9)],lr=.1)]",
        "import torch\na=[torch.optim.SGD([torch.ones(9)],lr=.2)]",
    ),
    "no_grad vs enable": (
        "import torch\n@torch.no_grad()\ndef a(x): return x",
        "import torch\n@torch.enable_grad()\ndef a(x): return x",
    ),
    "user global class inst": (
        "class C: pass\nC.e=1\ndef a(): return C.e",
        "class C: pass\nC.e=2\ndef a(): return C.e",
    ),
    "global list of fn": (
        "F=[lambda x:x, lambda x:x+1]\ndef a(x): return F[0](F[1](x))",
        "F=[lambda x:x, lambda x:x+2]\ndef a(x): return F[0](F[1](x))",
    ),
    "dict sub": (
        "from collections import OrderedDict, defaultdict\na=defaultdict(lambda: 1)",
        "from collections import OrderedDict, defaultdict\na=defaultdict(lambda: 2)",
    ),
    "np rng legacy": (
        "import numpy as np\na=np.random.RandomState(0)",
        "import numpy as np\na=np.random.RandomState(1)",
    ),
    "random": ("import random\na=random.Random(0)", "import random\na=random.Random(1)"),
    "simplens": (
        "from types import SimpleNamespace as N\na=N(e=1)",
        "from types import SimpleNamespace as N\na=N(e=2)",
    ),
    "module pass": (
        (
            'import types\nm=types.ModuleType("z")\nexec("def f(x): return 1", m.__dict__)\ndef'
            " a(x): return m.f(x)"
        ),
        (
            'import types\nm=types.ModuleType("z")\nexec("def f(x): return 2", m.__dict__)\ndef'
            " a(x): return m.f(x)"
        ),
    ),
    "class decorator reg": (
        "def a(x):\n class L:\n  e=1\n return L.e",
        "def a(x):\n class L:\n  e=2\n return L.e",
    ),
    "walrus": (
        "def a(x): return [y for z in x if (y:=z)]",
        "def a(x): return [y for z in x if not (y:=z)]",
    ),
    "try": (
        "def a(x):\n try: return x\n except ValueError: return 1",
        "def a(x):\n try: return x\n except TypeError: return 1",
    ),
    "global fn through dict attr": (
        (
            "class R: table={}\ndef reg(f): R.table[f.__name__]=f\n@reg\ndef g(x): return 1\ndef"
            ' a(x): return R.table["g"](x)'
        ),
        (
            "class R: table={}\ndef reg(f): R.table[f.__name__]=f\n@reg\ndef g(x): return 2\ndef"
            ' a(x): return R.table["g"](x)'
        ),
    ),
    "slots+dict": (
        'class B:\n __slots__=("p",)\nclass A(B):\n pass\na=A(); a.p=1; a.q=1',
        'class B:\n __slots__=("p",)\nclass A(B):\n pass\na=A(); a.p=2; a.q=1',
    ),
    "private slot": (
        'class B:\n __slots__=("__p",)\n def __init__(s,p): s.__p=p\na=B(1)',
        'class B:\n __slots__=("__p",)\n def __init__(s,p): s.__p=p\na=B(2)',
    ),
    "frozen": (
        (
            "from dataclasses import dataclass\n@dataclass(frozen=True,slots=True)\nclass A:\n"
            " e:int=1\na=A()"
        ),
        (
            "from dataclasses import dataclass\n@dataclass(frozen=True,slots=True)\nclass A:\n"
            " e:int=2\na=A()"
        ),
    ),
    "dc factory": (
        (
            "from dataclasses import dataclass, field\n@dataclass\nclass A:\n"
            " e:list=field(default_factory=lambda:[1]*20)\ndef a(): return A()"
        ),
        (
            "from dataclasses import dataclass, field\n@dataclass\nclass A:\n"
            " e:list=field(default_factory=lambda:[2]*20)\ndef a(): return A()"
        ),
    ),
    "big list": ("a=list(range(99))", "a=list(range(98))+[5]"),
    "str long": ('a="x"*999', 'a="x"*998+"y"'),
    "tensor requires list": (
        "import torch\na=[torch.ones(9),torch.ones(9)]",
        "import torch\na=[torch.ones(9),torch.zeros(9)]",
    ),
    "memoryview": ('a=bytearray(b"ab")', 'a=bytearray(b"ac")'),
    "generator cuda-like attr": (
        "import torch\nclass A:\n def __init__(s): s.g=torch.Generator().manual_seed(1)\na=A()",
        "import torch\nclass A:\n def __init__(s): s.g=torch.Generator().manual_seed(2)\na=A()",
    ),
    "staticmethod value": (
        "class A:\n e=staticmethod(lambda: 1)\na=A()",
        "class A:\n e=staticmethod(lambda: 2)\na=A()",
    ),
    "abstract": (
        (
            "import abc\nclass B(abc.ABC):\n @abc.abstractmethod\n def f(s): ...\nclass A(B):\n def"
            " f(s): return 1\na=A()"
        ),
        (
            "import abc\nclass B(abc.ABC):\n @abc.abstractmethod\n def f(s): ...\nclass A(B):\n def"
            " f(s): return 2\na=A()"
        ),
    ),
    "generic": (
        (
            'from typing import Generic,TypeVar\nT=TypeVar("T")\nclass A(Generic[T]):\n def f(s):'
            " return 1\na=A[int]()"
        ),
        (
            'from typing import Generic,TypeVar\nT=TypeVar("T")\nclass A(Generic[T]):\n def f(s):'
            " return 2\na=A[int]()"
        ),
    ),
    "__getattr__": (
        "class A:\n def __getattr__(s,k): return 1\na=A()",
        "class A:\n def __getattr__(s,k): return 2\na=A()",
    ),
    "lambda in default": (
        "def a(x,f=lambda x:x): return f(x)",
        "def a(x,f=lambda x:-x): return f(x)",
    ),
    "coroutine gen fn": ("def a(x): yield 1", "def a(x): yield 2"),
    "contextmanager": (
        "from contextlib import contextmanager\n@contextmanager\ndef a(): yield 1",
        "from contextlib import contextmanager\n@contextmanager\ndef a(): yield 2",
    ),
    "exitstack": (
        "import contextlib\na=contextlib.nullcontext(1)",
        "import contextlib\na=contextlib.nullcontext(2)",
    ),
    "builtin shadow": (
        "def sum(x): return 1\ndef a(x): return sum(x)",
        "def sum(x): return 2\ndef a(x): return sum(x)",
    ),
}


@pytest.mark.parametrize("case", MORE)
def test_odd_corners(case, tmp_path):
    a, b = two(tmp_path, *MORE[case])
    again, _ = two(tmp_path, *MORE[case])
    assert a == again != b and "unreadable" not in str(a), difference(a, b)
    assert made_of(module(tmp_path, MORE[case][0], file=False).a) != made_of(
        module(tmp_path, MORE[case][1], file=False).a
    )


SAME = {
    "comment": ("def a(x): return x", "def a(x): return x   # as it is"),
    "blank lines": ("def a(x):\n return x", "\n\n\ndef a(x):\n\n    # so\n\n    return x\n"),
    "docstring": ("def a(x): return x", 'def a(x):\n "As it is"\n return x'),
    "docstring of a class": (
        "class F:\n def g(self): return 1\na = F()",
        'class F:\n "A class"\n def g(self):\n  "One"\n  return 1\na = F()',
    ),
    "docstring of a nested one": (
        "def a(x):\n def b(): return x\n return b",
        'def a(x):\n "Deep"\n def b():\n  "Deeper"\n  return x\n return b',
    ),
    "layout": ("def a(x, y): return (x+\n y)", "def a(x,y):\n    return x + y"),
    "quotes": ('def a(): return "x"', "def a(): return 'x'"),
    "order": (
        "def b(): return 1\ndef c(): return 2\ndef a(): return b()+c()",
        "def c(): return 2\ndef b(): return 1\ndef a(): return b()+c()",
    ),
    "methods in another order": (
        "class F:\n def g(self): return 1\n def h(self): return 2\na = F()",
        "class F:\n def h(self): return 2\n def g(self): return 1\na = F()",
    ),
    "what is not read": (
        "Q = 1\ndef z(): return 1\ndef a(x): return x",
        "Q = 2\ndef z(): return 2\ndef a(x): return x",
    ),
    "order of a set": ('a = {"x", "y", "z"}', 'a = {"z", "y", "x"}'),
    "a generator that has drawn": (
        "a = torch.Generator().manual_seed(1)",
        "a = torch.Generator().manual_seed(1)\ntorch.rand(3, generator=a)",
    ),
    "a numpy generator that has drawn": (
        "import numpy\na = numpy.random.default_rng(1)",
        "import numpy\na = numpy.random.default_rng(1)\na.random()",
    ),
    "a cached property that was asked": (
        "class F:\n @functools.cached_property\n def e(self): return 1\na = F()",
        "class F:\n @functools.cached_property\n def e(self): return 1\na = F()\na.e",
    ),
    "strides": (
        "a = torch.arange(6.).view(2, 3)",
        "a = torch.arange(6.).view(2, 3).T.contiguous().T",
    ),
    "gradient": ("a = torch.arange(6.)", "a = torch.arange(6.).requires_grad_()*1"),
}


@pytest.mark.parametrize("case", SAME)
def test_what_changes_nothing_is_not_seen(case, tmp_path):
    a, b = two(tmp_path, *(HEAD + t for t in SAME[case]))
    assert a == b, difference(a, b)


def test_channels_last_double_copies_and_devices():
    torch.manual_seed(0)
    net = SmallCNN(width=4)
    was = fingerprint(net)
    assert (
        fingerprint(copy.deepcopy(net))
        == was
        == fingerprint(copy.deepcopy(net).to(memory_format=torch.channels_last))
    )
    assert (
        fingerprint(copy.deepcopy(net).double()) != was
        and fingerprint(copy.deepcopy(net).double().float()) == was
    )
    with torch.no_grad():
        next(net.parameters())[0] += 1e-6
    assert fingerprint(net) != was
    assert (
        fingerprint(net, weights=False)
        == fingerprint(SmallCNN(width=4), weights=False)
        != fingerprint(SmallCNN(width=8), weights=False)
    )
    assert fingerprint(net, modes=False) == fingerprint(net.eval(), modes=False)
    if torch.cuda.is_available():
        assert fingerprint(copy.deepcopy(net).cuda()) == fingerprint(net)


def test_odd_tensors_have_values_too():
    odd = [
        torch.tensor(1.0),
        torch.empty(0),
        torch.ones(3).bfloat16(),
        torch.ones(9, dtype=torch.cfloat).conj(),
        torch.eye(5).to_sparse(),
        torch.ones(2, 1).expand(2, 9),
        torch.tensor([True]),
        torch.quantize_per_tensor(torch.rand(9), 0.1, 0, torch.quint8),
        torch.empty(3, device="meta"),
        nn.Parameter(torch.ones(9)),
    ]
    texts = [str(made_of(t)) for t in odd]
    assert len({*texts}) == len(texts) and not any("unreadable" in t for t in texts)
    assert digest(torch.ones(3)) == digest(torch.ones(6)[::2]) != digest(torch.ones(3, 1))


def test_cycles_end():
    ring = []
    ring.append([ring])

    class Node:
        pass

    n, m = Node(), Node()
    n.other, m.other, n.all = m, n, {n, m}
    net = nn.Linear(2, 2)
    object.__setattr__(net, "me", net)

    def even(k):
        return k == 0 or odd(k - 1)

    def odd(k):
        return k > 0 and even(k - 1)

    for a in (ring, n, net, even):
        assert fingerprint(a) == fingerprint(a)
    deep = chain = []
    for _ in range(20_000):
        chain.append([])
        chain = chain[0]
    # no recursion: depth costs nothing but time
    assert fingerprint(deep) == fingerprint(deep)


def test_nothing_that_answers_badly_stops_the_walk():
    import logging
    import threading
    from unittest.mock import MagicMock

    class Rude:
        def __getattr__(self, k):
            raise RuntimeError(k)

        def __repr__(self):
            raise RuntimeError

        def __eq__(self, other):
            raise RuntimeError

        __hash__ = None

    held = [
        Rude(),
        MagicMock(),
        threading.Lock(),
        logging.getLogger("x"),
        (i for i in range(3)),
        open(os.devnull),
        re.compile("x"),
        sys,
        torch,
        np.float32(1),
        iter([1]),
        type,
        lambda: 0,
        nn.Module,
        torch.nn.functional.relu,
        len,
        [].append,
        np.add,
        ...,
        NotImplemented,
        torch.float32,
        torch.device("cpu"),
        memoryview(b"x"),
        object(),
    ]
    assert fingerprint(held) == fingerprint(held)
    # it was looked at, not drawn from
    assert next(held[4]) == 0


def test_compiled_and_scripted_networks():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    assert fingerprint(torch.compile(net)) == fingerprint(net)
    f = torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    g = torch.jit.script(nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(4, 2)))
    g[2].load_state_dict(f[1].state_dict())
    assert (
        len(
            {
                fingerprint(f),
                fingerprint(g),
                fingerprint(torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))),
            }
        )
        == 3
    )
    traced = torch.fx.symbolic_trace(net)
    assert (
        fingerprint(traced)
        == fingerprint(torch.fx.symbolic_trace(net))
        != fingerprint(torch.fx.symbolic_trace(nn.Sequential(nn.Flatten(), net[1], nn.ReLU())))
    )


def test_slots_of_attacks_and_descriptions():
    ball = Linf(0.1)
    ways = [
        pgd(ball),
        pgd(Linf(0.2)),
        pgd(L2(0.1)),
        pgd(ball, 11),
        pgd(ball, loss=margin),
        pgd(ball, loss=smoothed(ce, 0.1)),
        pgd(ball, loss=smoothed(ce, 0.3)),
        autoattack(ball),
        autoattack(ball, steps=9),
        autoattack(ball, "plus"),
        partial(pgd, ball),
        partial(pgd, Linf(0.2)),
    ]
    assert len({fingerprint(a) for a in ways}) == len({describe(a) for a in ways}) == len(ways)
    assert (
        difference(made_of(pgd(ball)), made_of(pgd(Linf(0.2), 20, 0.1)))
        == "steps was 10, now 20, lr was 0.025, now 0.1, ball.eps was 0.1, now 0.2"
    )
    assert difference(made_of(1), made_of(1)) == "" and isinstance(made_of(1), Parts)


def test_our_own_code_is_one_part_a_module(monkeypatch):
    from spat_nb.attacks import attack as room

    a = pgd(Linf(0.1))
    was, names = made_of(a), made_of(a, ours=False)
    assert (
        [k for k in was if k.startswith("spat_nb.")]
        and not [k for k in was if k.startswith("function")]
        and not [k for k in names if "spat_nb" in k]
    )

    def ascend(f, x0, *rest, **kw):
        raise NotImplementedError

    monkeypatch.setattr(room, "ascend", ascend)
    assert (
        "spat_nb.attacks.ascent has changed" in difference(was, made_of(a))
        and "ascend" in difference(was, made_of(a), 9)
        and made_of(a, ours=False) == names
    )


def test_a_function_in_c_that_is_bound_to_a_class_stands_for_it(tmp_path):
    "`apply` of an autograd function is one from torch 2.15 on; `fromkeys` of a dict is everywhere"
    text = """
        import functools
        class D(dict):
            def __setitem__(self, k, v): super().__setitem__(k, v+1)
        made = D.fromkeys
        def ask(x): return made(x)
        class Owner:
            make = D.fromkeys
        waits = functools.partial(made, (1, 2))
    """
    was, now = (module(tmp_path, t) for t in (text, text.replace("v+1", "v-1")))
    for name in ("made", "ask", "Owner", "waits"):
        old, new = made_of(getattr(was, name)), made_of(getattr(now, name))
        assert "function `D.__setitem__`" in difference(old, new), name
    assert made_of(dict.fromkeys) == {"it": "built in dict.fromkeys"}
    assert describe(dict.fromkeys) == "<built-in method fromkeys of type object>"
    assert describe(was.made) == f"<built-in method fromkeys of {was.D!r}>"
    assert not made_of(torch.relu).keys() - {"it"}


@pytest.mark.parametrize("options", ["", "frozen=True", "order=True", "slots=True"])
def test_what_dataclass_writes_is_no_part(options, tmp_path):
    text = """
        import reprlib
        from dataclasses import dataclass, field
        @dataclass(OPTIONS)
        class P:
            x: int = 1
        @dataclass(OPTIONS)
        class Q:
            p: P = field(default_factory=P)
            def __repr__(self): return "Q"
        @dataclass(repr=False)
        class R:
            @reprlib.recursive_repr()
            def __repr__(self): return "R"
    """
    text = text.replace("OPTIONS", options or "unsafe_hash=True")
    m = module(tmp_path, text)
    for a in (m.P(), m.Q(), m.P):
        parts = made_of(a)
        assert {k for k in parts if k.startswith("function")} <= {"function Q.__repr__"}
        assert not [k for k, v in parts.items() if re.search("_replace|create_fn|wrapper", k + v)]
    # as Python 3.13 builds it, on every version
    inner = inspect.unwrap(m.P.__repr__)
    m.P.__repr__ = reprlib.recursive_repr()(inner)
    m.P.__repr__.__wrapped__ = inner
    assert not [k for k, v in made_of(m.P).items() if re.search("create_fn|wrapper", k + v)]
    # what a reader wrote counts, also within the helper that dataclass takes for its own
    before, after = (module(tmp_path, text.replace('"R"', word)).R for word in ("'R'", "'S'"))
    assert "function `R.__repr__`" in difference(made_of(before), made_of(after))


def test_an_object_may_say_what_it_stands_for():
    class Counted:
        def __init__(self, attack):
            self.attack, self.calls = attack, 0

        def __identity__(self):
            return self.attack

    a, b = Counted(pgd(Linf(0.1))), Counted(pgd(Linf(0.1)))
    b.calls = 3
    assert (
        fingerprint(a)
        == fingerprint(b)
        == fingerprint(pgd(Linf(0.1)))
        != fingerprint(Counted(pgd(Linf(0.2))))
    )
    for thing in (ce, SmallCNN):
        assert fingerprint([Counted(thing), thing]) == fingerprint([thing, thing])


def test_a_file_that_was_edited_after_the_import_is_not_taken_for_what_runs(tmp_path):
    old = module(tmp_path, "def a(x): return x")
    (tmp_path / "mine.py").write_text("def a(x): return -x")  # nobody has imported that
    new = module(tmp_path, "def a(x): return -x")
    assert fingerprint(old.a) != fingerprint(new.a)


def test_installed_libraries_count_by_their_version(tmp_path, monkeypatch):
    home = tmp_path / "site-packages"
    home.mkdir()
    lib = module(home, '__version__ = "1.0"\ndef f(x): return x', "alien")
    monkeypatch.setitem(sys.modules, "alien", lib)
    p = made_of(lib.f)
    assert p == {"it": "f", "library alien": "1.0"}
    lib.__version__ = "1.1"
    assert difference(p, made_of(lib.f)) == "library alien was 1.0, now 1.1"


def test_imports_within_a_function(tmp_path, monkeypatch):
    "The module is a user's own: it counts, whether somebody has loaded it already or not"
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_tools.py").write_text("E = 1\ndef g(x): return x")
    f = module(
        tmp_path, "def a(x):\n from own_tools import g, E\n import json, numpy\n return g(x)+E"
    ).a
    assert "own_tools" not in sys.modules
    was = made_of(f)
    f(1)
    assert made_of(f) == was and "function g" in was and was["the global E"] == "1"
    sys.modules["own_tools"].E = 2
    assert difference(was, made_of(f)) == "the global E was 1, now 2"
    del sys.modules["own_tools"]


FRESH = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
torch.manual_seed(0)
from functools import partial
from spat_nb.attacks.attack import pgd
from spat_nb.attacks.autoattack import autoattack
from spat_nb.attacks.balls import Linf
from spat_nb.data.draws import crop_flip
from spat_nb.data.sources import get_data
from spat_nb.core.identity import fingerprint, made_of
from spat_nb.attacks.losses import ce
from spat_nb.attacks.wrapped import smoothed
from spat_nb.models.networks import SmallCNN
from spat_nb.training.objectives import pgd_at, trades
from spat_nb.studies import finding
import mine
things = [pgd(Linf(.1)), autoattack(Linf(.1)), SmallCNN(width=4), pgd(Linf(.1), loss=smoothed(ce, .1)), partial(trades, beta=3.), get_data('digits', device='cpu', augment=crop_flip(1)).test.subset(9), mine.a, mine.b, mine.N()]
print([fingerprint(t) for t in things])
print([fingerprint(vars(a)) for s in finding.studies().values() for a in s.arms.values()])
"""  # noqa: E501


def test_the_same_in_two_fresh_processes(tmp_path):
    (tmp_path / "mine.py").write_text(
        HEAD + 'S = {"x", "y", "z", None, 1.5}\ndef f(): return 1\nclass N(nn.Module):\n def'
        ' forward(self, x): return x if x in S else f()\na = lambda x: x in {"p", "q", "r"} and'
        " S\nb = [{f, N, len}, object(), a]"
    )
    seen = [
        subprocess.run(
            [sys.executable, "-c", FRESH, str(tmp_path)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
        )
        for seed in ("1", "77")
    ]
    assert seen[0].returncode == 0, seen[0].stderr
    assert (
        seen[0].stdout == seen[1].stdout
        and len({*re.findall("[0-9a-f]{40}", seen[0].stdout.splitlines()[0])}) == 9
    )


def clock(f):
    t = time.perf_counter()
    f()
    return time.perf_counter() - t


def test_it_is_quick():
    "Beside the hashing of 45 MB of weights a PreActResNet-18 costs a fraction"
    net = PreActResNet18(width=64)

    def least(f):
        return min(clock(f) for _ in range(5))

    assert (
        least(lambda: fingerprint(net, weights=False))
        < 0.25 * least(lambda: digest(*net.state_dict().values())) + 0.02
    )


def test_a_copy_leaves_the_identity_of_a_class_alone():
    "copy and pickle keep the names of slots on the class; a run goes on all the same"
    import copy
    import dataclasses
    import pickle

    from spat_nb.attacks.attack import fgsm

    @dataclasses.dataclass(frozen=True)
    class Mine:
        ball: object

        def __call__(self, model, x, y):
            return x

    attack = Mine(Linf(0.1))
    before = made_of(attack)
    assert copy.deepcopy(attack) == attack and "__slotnames__" in vars(Mine)
    assert made_of(attack) == before
    ours = fgsm(Linf(0.1))
    before = made_of(ours)
    pickle.dumps(ours)
    copy.deepcopy(ours)
    assert made_of(ours) == before
