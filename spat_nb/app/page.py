"""The playground's page: what stands where, on a wide screen and on a phone, light and dark"""

from __future__ import annotations

import base64
import html

from spat_nb.app.controls import widgets_library

TODO = (
    "Move <b>eps</b> to the left until the network holds. Then try another network, image or"
    " attack, or photograph a digit that you wrote."
)

# panels that stand together, in the order of the page
GROUPS = {
    "pictures": ("clean", "change", "attacked"),
    "charts": ("belief", "loss"),
    "land": ("landscape",),
}
DARK_PAGE = ':is([data-jp-theme-light="false"], .vscode-dark, html[theme="dark"])'
STYLE = f"""<style>
.playground {{ container-type: inline-size; width: 100%; color: var(--jp-ui-font-color1, #222) }}
.playground, .playground .widget-box {{ overflow: visible }}
.playground .playground-grid.widget-box {{
  display: grid; gap: .5em 1.2em; align-items: start;
  grid-template: "todo todo todo" "controls said said" "controls pictures land"
    "controls charts land" 1fr "verdict verdict verdict" auto
    / 21.5em minmax(0, 1.53fr) minmax(0, 1fr) }}
.playground .playground-grid > * {{ min-width: 0; margin: 0 }}
.playground .widget-html-content {{ width: 100%; min-width: 0; white-space: normal }}
.playground p {{ margin: .2em 0; line-height: 1.45; font-size: 15px }}
.playground-grid > .playground-todo {{ grid-area: todo }}
.playground-grid > .playground-notes {{ grid-area: said }}
.playground-grid > .playground-menu {{ grid-area: controls }}
.playground-grid > .playground-pictures {{ grid-area: pictures }}
.playground-grid > .playground-charts {{ grid-area: charts }}
.playground-grid > .playground-land {{ grid-area: land }}
.playground-grid > .playground-verdict {{ grid-area: verdict }}
.playground-verdict pre {{ overflow-x: auto; font: 13px/1.4 monospace }}
.playground-verdict ul {{ margin: .2em 0; padding-left: 1.4em; line-height: 1.45; font-size: 15px }}
.playground-error {{ color: var(--jp-error-color1, #a33b00); font-weight: 600 }}
.playground-note {{ border-left: 4px solid #E69F00; padding-left: .6em }}
.playground-row {{ display: grid; gap: 0 .2em }}
.playground-pictures .playground-row {{ grid-template-columns: repeat(3, minmax(0, 1fr)) }}
.playground-charts .playground-row {{ grid-template-columns: minmax(0, 31fr) minmax(0, 29.5fr) }}
.playground figure {{ margin: 0; min-width: 0 }}
.playground img {{ width: 100%; height: auto; display: block }}
.playground .on-dark, {DARK_PAGE} .playground .on-light {{ display: none }}
{DARK_PAGE} .playground .on-dark {{ display: block }}
.playground .playground-buttons {{ flex-flow: row wrap }}
@container (max-width: 1000px) {{
  .playground .playground-grid.widget-box {{
    grid-template: "todo todo" "controls said" "controls pictures" "controls charts"
      "controls land" 1fr "verdict verdict" auto / 18em minmax(0, 1fr) }}
}}
@container (max-width: 640px) {{
  .playground .playground-grid.widget-box {{
    grid-template: "todo" "said" "pictures" "controls" "charts" "land" "verdict" / minmax(0, 1fr) }}
  .playground-pictures .playground-row {{ grid-template-columns: repeat(2, minmax(0, 1fr)) }}
  .playground-change {{ order: 1; grid-column: 1 / -1; width: 50%; justify-self: center }}
  .playground-charts .playground-row {{ grid-template-columns: minmax(0, 1fr) }}
}}
</style>"""

# where no kernel listens, a saved notebook shows the picture alone: the live page hides it, and
# without a live page it hides what JupyterLab says of a widget that it cannot draw
STILL_STYLE = """<style>
:is(.jp-OutputArea, .output_container):has(.playground) .playground-still { display: none }
.jp-OutputArea:has(.playground-still):not(:has(.playground))
  > .jp-OutputArea-child:not(:has(.playground-still)) { display: none }
.playground-still img { width: 100%; max-width: 1060px; height: auto }
</style>"""


def data_uri(
    png: bytes,  # a PNG file
) -> str:
    """A picture as an address that holds it

    Parameters
    ----------
    png : bytes
        a PNG file

    Returns
    -------
    str
    """
    return "data:image/png;base64," + base64.b64encode(png).decode()


def still_html(
    png: bytes,  # the figure
    words: str,  # what it shows
) -> str:
    """What a saved notebook keeps: a picture that needs no kernel

    Parameters
    ----------
    png : bytes
        the figure
    words : str
        what it shows

    Returns
    -------
    str
    """
    return (
        f'{STILL_STYLE}<div class="playground-still"><img src="{data_uri(png)}"'
        f' alt="{html.escape(words)}">'
        "<p>The playground as it opens. Run the cell to play.</p></div>"
    )


def row_html(
    names: tuple,  # of the panels
    light: dict,  # name -> PNG file for a light page
    dark: dict,  # name -> PNG file for a dark page
    words: dict,  # name -> what it shows
) -> str:
    """Panels side by side, in both themes; the page shows the one that fits it

    Parameters
    ----------
    names : tuple
        of the panels
    light : dict
        name -> PNG file for a light page
    dark : dict
        name -> PNG file for a dark page
    words : dict
        name -> what it shows

    Returns
    -------
    str
    """

    def img(png, theme, name):
        return (
            f'<img class="playground-picture on-{theme}" decoding="sync" src="{data_uri(png)}"'
            f' alt="{html.escape(words[name])}">'
        )

    figures = "".join(
        f'<figure class="playground-panel playground-{name}">{img(light[name], "light", name)}'
        f"{img(dark[name], 'dark', name)}</figure>"
        for name in names
    )
    return f'<div class="playground-row">{figures}</div>'


class Page:
    """The widgets, laid out

    Parameters
    ----------
    controls : dict
        name -> menu or slider
    buttons : dict
        name -> button
    """

    def __init__(
        self,
        controls: dict,  # name -> menu or slider
        buttons: dict,  # name -> button
    ):
        W = widgets_library()
        self.said = W.HTML()
        self.rows = {name: W.HTML() for name in GROUPS}
        self.verdict = W.HTML()  # what the gates say of the network
        beside = W.HBox([buttons["offer"], buttons["back"]])
        beside.add_class("playground-buttons")
        parts = {
            "todo": W.HTML(f"<p>{TODO}</p>"),
            "notes": W.VBox([self.said, beside]),
            "menu": W.VBox([*controls.values(), buttons["gates"], buttons["again"]]),
            **self.rows,
            "verdict": self.verdict,
        }
        for name, part in parts.items():
            part.add_class(f"playground-{name}")
        grid = W.Box([*parts.values()])
        grid.add_class("playground-grid")
        self.box = W.Box([W.HTML(STYLE), grid], layout=W.Layout(display="block", width="100%"))
        self.box.add_class("playground")
        self.widgets = [
            *controls.values(),
            *buttons.values(),
            self.said,
            beside,
            *parts.values(),
            *self.box.children,
            self.box,
        ]

    def show(
        self,
        light: dict,  # name -> PNG file for a light page
        dark: dict,  # name -> PNG file for a dark page
        words: dict,  # name -> what it shows
    ) -> None:
        """Put the panels on the page

        Parameters
        ----------
        light : dict
            name -> PNG file for a light page
        dark : dict
            name -> PNG file for a dark page
        words : dict
            name -> what it shows
        """
        for group, names in GROUPS.items():
            self.rows[group].value = row_html(names, light, dark, words)

    def say(
        self,
        first: str,  # in bold
        more: str = "",  # a few sentences
        note: str = "",  # what must be known besides
        bad: bool = False,  # did something go wrong?
    ) -> None:
        """Say what is seen, or what went wrong

        Parameters
        ----------
        first : str
            in bold
        more : str
            a few sentences (default: "")
        note : str
            what must be known besides (default: "")
        bad : bool
            did something go wrong? (default: False)
        """
        kind = "error" if bad else "words"
        self.said.value = (
            f'<p class="playground-{kind}" role="status" aria-live="polite">'
            f"<b>{html.escape(first)}</b> {html.escape(more)}</p>"
        )
        if note:
            self.said.value += f'<p class="playground-note">{html.escape(note)}</p>'

    def close(self) -> None:
        "Forget the widgets, the kernel's and the browser's, and the pictures in them"
        for row in self.rows.values():
            row.value = ""
        for w in self.widgets:
            w.close()
