"""Pack the exercises of `exercises/` into the package:  python tools/pack_exercises.py

A file for each room; what is up to date is left alone, and packs without a source are removed.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from spat_nb.learn.packed import FOLDER, pack

    sources = {path.stem: path for path in (ROOT / "exercises").glob("[a-z]*.py")}
    for name, path in sorted(sources.items()):
        new = pack(path.read_text(encoding="utf-8"))
        packed = FOLDER / f"{name}.pack"
        if not packed.is_file() or zlib.decompress(packed.read_bytes()) != zlib.decompress(new):
            packed.write_bytes(new)
            print(packed.relative_to(ROOT))
    for packed in FOLDER.glob("*.pack"):
        if packed.stem not in sources:
            packed.unlink()
            print(f"removed {packed.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
