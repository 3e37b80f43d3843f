"""Adversarial robustness: learn it, use it, judge it, in literate notebooks

Modules:

- `spat_nb.attacks.targets`: Any attack, towards one wrong class after another"""

from . import public as _public

__version__ = "0.1.0"
__all__ = list(_public.NAMES)


def __getattr__(name):
    "A public name brings its module when it is asked for; `import spat_nb` alone brings none"
    if name.startswith("_") or name not in _public.NAMES:
        end = "" if name.startswith("_") else _public.nearest(name, _public.NAMES)
        raise AttributeError(f"module 'spat_nb' has no attribute {name!r}{end}")
    return _public.resolve(name)


def __dir__():
    return sorted({*globals(), *__all__})
