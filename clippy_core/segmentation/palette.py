"""Colours for labels.

The first seven are the set of Okabe and Ito, made to be told apart with any kind of colour vision. The others were
chosen one after another, each as far as possible from all before it in the OKLab space, where far means far for
normal sight *and* under simulated deuteranopia and protanopia (matrices of Machado, Oliveira and Fernandes, 2009).
Labels beyond the table start over, so neighbours in a list still differ.
"""

import numpy as np

_HEX = (
    "e69f00 56b4e9 009e73 f0e442 0072b2 d55e00 cc79a7 663311 77ffff 0000ff 552288 8877ff 00ddaa 884466 994400 77ffaa "
    "3344bb aaccff 771155 66bb77 dd33dd cccc66 bb3399 bb4444 44cccc 66eecc ff6644 dd6666 883388 7799ff 4411aa aa0044"
)
PALETTE_N3 = np.array([list(bytes.fromhex(colour)) for colour in _HEX.split()], dtype=np.uint8)
BACKGROUND_COLOUR = (40, 40, 40)
UNDECIDED_COLOUR = (255, 255, 255)


def label_colours(count: int, *, background: bool = False) -> np.ndarray:
    """RGB colours of ``count`` labels, ``uint8`` of shape (count, 3).

    With ``background``, label 0 is dark grey and the palette starts at label 1.
    """
    colours_K3 = PALETTE_N3[np.arange(count) % len(PALETTE_N3)]
    if background:
        colours_K3 = np.concatenate([np.array([BACKGROUND_COLOUR], np.uint8), colours_K3[: count - 1]])
    return colours_K3
