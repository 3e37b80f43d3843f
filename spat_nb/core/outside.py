"""Names from outside, package.module:name and file.py:name

Written by hand: no notebook makes it.
"""

# `find` imports: it is called for what a person typed, never for what was read from a file.

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import sys
from pathlib import Path

from ..public import nearest

_FILES: dict[
    str, str
] = {}  # name of a module that was read from a file -> the path as it was typed


def find(
    name: str,  # 'package.module:name' or 'path/file.py:name'
):  # the function or class
    "Import what a typed name means. ValueError where there is no such thing, in one sentence"
    where, _, attribute = name.rpartition(":")
    module = _from_file(where) if where.endswith(".py") else _module(where)
    if hasattr(module, attribute) and not attribute.startswith("__"):
        return getattr(module, attribute)
    end = nearest(attribute, vars(module)) or f"; look into {where}."
    raise ValueError(f"{where} has no {attribute!r}{end}")


def _module(where):
    try:
        return importlib.import_module(where)
    except Exception as e:
        why = " ".join(str(e).split())
        mend = f"for a file write {where}.py:name" if isinstance(e, ImportError) else "mend it"
        raise ValueError(f"{where} cannot be imported ({type(e).__name__}: {why}); {mend}.") from e


def _from_file(where):
    "The module of a file; the same one as long as the file says the same"
    path = Path(where).expanduser()
    try:
        content = path.read_bytes()
    except OSError as e:
        raise ValueError(f"{where} cannot be read ({e.strerror or e}); check the path.") from None
    key = hashlib.sha256(os.fsencode(path.absolute()) + b"\0" + content).hexdigest()[:16]
    name = re.sub(r"\W", "_", f"{path.stem}_{key}")
    if name not in sys.modules:
        _run(name, path, content, where)
    _FILES[name] = Path(where).as_posix()
    return sys.modules[name]


def _run(name, path, content, where):
    "Run the file as a new module; its folder is the last place where it finds its neighbours"
    spec = importlib.util.spec_from_file_location(name, path.absolute())
    if spec is None:
        raise ValueError(f"{where} is no Python file; give one that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.absolute().parent)
    sys.modules[name] = module
    sys.path.append(folder)
    try:
        exec(compile(content, str(path.absolute()), "exec", dont_inherit=True), vars(module))
    except BaseException as e:
        del sys.modules[name]
        if not isinstance(e, (Exception, SystemExit)):
            raise
        why = " ".join(str(e).split())
        raise ValueError(f"{where} does not run ({type(e).__name__}: {why}); mend it.") from e
    finally:
        sys.path.remove(folder)


def spelled(
    obj,  # a function or class that is not spat_nb's
) -> str:  # what `find` finds it by; '' where it has no such name
    "'package.module:name' or 'file.py:name'"
    name, home = getattr(obj, "__qualname__", ""), getattr(obj, "__module__", None)
    module = sys.modules.get(home or "")
    if not name.isidentifier() or getattr(module, name, None) is not obj:
        return ""
    if home in _FILES:
        return f"{_FILES[home]}:{name}"
    if home != "__main__":
        return f"{home}:{name}"
    file = getattr(module, "__file__", None)  # a script has one, a notebook has none
    return f"{_near(file)}:{name}" if file and file.endswith(".py") else ""


def _near(file):
    "The path of a script, from here where it lies below"
    path = Path(file).absolute()
    here = Path.cwd()
    return (path.relative_to(here) if path.is_relative_to(here) else path).as_posix()
