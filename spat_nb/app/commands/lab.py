"""Open JupyterLab on a copy of the notebooks, or the playground alone as a page of its own. What
you changed in the folder is never overwritten
"""

from __future__ import annotations

from pathlib import Path

from ..arguments import whole

EXAMPLE = "spat_nb lab my-notebooks --no-browser --port 8888"
MORE = "Other flags of the form --ServerApp.key=value are passed on."


def add(parser):
    "Its flags"
    parser.add_argument(
        "folder",
        nargs="?",
        default="spat_nb-notebooks",
        help="Lay the notebooks into this folder. The default is spat_nb-notebooks.",
    )
    parser.add_argument(
        "--copy-only", action="store_true", help="Lay the notebooks there and stop."
    )
    parser.add_argument(
        "--teacher",
        action="store_true",
        help="Lay out the notebooks without their solutions, and an answer key beside them.",
    )
    parser.add_argument(
        "--playground",
        action="store_true",
        help="Open the playground as a page of its own (Voila) instead of JupyterLab.",
    )
    parser.add_argument(
        "--no-browser", action="store_true", help="Open no browser, and print the address."
    )
    parser.add_argument("--port", type=whole(1, 65535), help="Let the server have this port.")
    parser.add_argument("--ip", help="Let the server listen on this address.")


def run(a):
    "Copy, say what was done, open"
    from spat_nb.core.paths import check_writable, shell

    from .. import lab
    from ..teacher import without_solutions

    check_writable(Path(a.folder).expanduser(), folder=True)
    what = without_solutions(lab.files()) if a.teacher else None
    done = lab.copy(a.folder, what)
    print(lab.told(done, a.folder))
    if a.copy_only:
        return print(f"Open them: {shell('spat_nb', 'lab', a.folder)}")
    args = lab.command(a.folder, a.playground, not a.no_browser, a.port, a.ip, a.more)
    return lab.become(args, a.folder)
