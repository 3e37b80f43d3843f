"""Adversarial robustness: learn it, use it, judge it, in literate notebooks

Modules:

- `spat_nb.core.outside`: Names from outside: `package.module:name` and `file.py:name`, where a person typed them
- `spat_nb.core.protocols`: The four kinds of function that the package is made of, for editors and type checkers
- `spat_nb.core.spec`: A spec is a call written down: `make` reads it, `text` writes it, `difference` compares two"""

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
