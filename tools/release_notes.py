"What CHANGELOG.md says of a version, for its release:  python tools/release_notes.py 0.1.0"

import sys

import site_pages


def notes(
    version,  # such as "0.1.0"; the head of a section may go on behind it: "0.1.0 (2026-12-01)"
):
    "The lines of a version as Markdown; SystemExit where CHANGELOG.md has none"
    for head, lines in site_pages.versions():
        if head.split()[0].strip("[]v") == version:
            return "\n".join(f"- {line}" for line in lines) + "\n"
    sys.exit(f"CHANGELOG.md has no section {version!r}; rename Unreleased before you tag")


if __name__ == "__main__":
    print(notes(sys.argv[1]), end="")
