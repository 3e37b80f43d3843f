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
        help="Lay the notebooks into this folder. The default is spat_nb-notebooks, and with "
        "--teacher spat_nb-class.",
    )
    parser.add_argument(
        "--copy-only", action="store_true", help="Lay the notebooks there and stop."
    )
    parser.add_argument(
        "--teacher",
        action="store_true",
        help="Lay out the notebooks without their solutions, and an answer key beside the folder.",
    )
    parser.add_argument(
        "--playground",
        action="store_true",
        help="Open the playground as a page of its own (Voila) instead of JupyterLab. With "
        "--theme=dark the page is dark.",
    )
    parser.add_argument(
        "--no-browser", action="store_true", help="Open no browser, and print the address."
    )
    parser.add_argument("--port", type=whole(1, 65535), help="Let the server have this port.")
    parser.add_argument("--ip", help="Let the server listen on this address.")


def run(a):
    "Copy, say what was done, open"
    from spat_nb.core.files import write_aside
    from spat_nb.core.paths import check_writable, shell

    from ...learn.teacher import without_solutions
    from .. import lab

    a.folder = a.folder or ("spat_nb-class" if a.teacher else "spat_nb-notebooks")
    folder = Path(a.folder).expanduser()
    check_writable(folder, folder=True)
    files = None
    if a.teacher:
        files, key = without_solutions(lab.files())
        key_path = folder.absolute().with_name(f"{folder.name}-answers.ipynb")
        check_writable(key_path)
        with write_aside(key_path) as part:
            part.write_bytes(key)
        print(f"answer key, for you alone: {key_path}")
    done = lab.copy(a.folder, files)
    print(lab.told(done, a.folder))
    if a.copy_only:
        return print(f"Open them: {shell('spat_nb', 'lab', a.folder)}")
    args = lab.command(a.folder, a.playground, not a.no_browser, a.port, a.ip, a.more)
    return lab.become(args, a.folder)
