"""Colours of the playground's figures: on paper, on a light page and on a dark one"""

from __future__ import annotations

from dataclasses import dataclass, replace

from spat_nb.core.plot import PALETTE


@dataclass(frozen=True)
class Theme:
    """Colours of a figure

    Parameters
    ----------
    paper : str
        behind everything; "none" lets the page shine through
    ink : str
        words, axes and borders
    edge : str
        thin rim around a mark, so that it stands out
    band : str
        behind the bars of the true class
    clean : str
        whatever belongs to the clean image
    attacked : str
        whatever belongs to the attacked image
    rival : str
        end of the second attack
    heights : tuple
        colours of the landscape, from a low loss to a high one
    """

    paper: str  # behind everything; "none" lets the page shine through
    ink: str  # words, axes and borders
    edge: str  # thin rim around a mark, so that it stands out
    band: str  # behind the bars of the true class
    clean: str  # whatever belongs to the clean image
    attacked: str  # whatever belongs to the attacked image
    rival: str  # end of the second attack
    heights: tuple  # colours of the landscape, from a low loss to a high one

    @property
    def colour_map(self):
        "The heights as matplotlib wants them"
        from matplotlib.colors import LinearSegmentedColormap

        return LinearSegmentedColormap.from_list("heights", self.heights)


PRINT = Theme(
    paper="white",
    ink="#222222",
    edge="white",
    band="#e3e8ee",
    clean=PALETTE[0],
    attacked=PALETTE[1],
    rival=PALETTE[2],
    heights=("#f7fbff", "#c6dbef", "#6baed6", "#2171b5", "#08306b"),
)
LIGHT = replace(PRINT, paper="none")
# the same hues, light enough to be read on black
DARK = Theme(
    paper="none",
    ink="#e6e6e6",
    edge="black",
    band="#333d49",
    clean="#56B4E9",
    attacked="#F58231",
    rival="#2BC49A",
    heights=("#16202b", "#1d3c5a", "#2b659b", "#5b9bd5", "#b5d4f0"),
)
