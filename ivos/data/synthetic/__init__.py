"""Synthetic video: textured figures that move, bend and hide each other, and still pictures that move.

From the inside out: :mod:`.spec` says what a set of clips is like; :mod:`.textures`, :mod:`.figures` and
:mod:`.sprites` make what is seen; :mod:`.cast` places it in a :mod:`.scene`, which :mod:`.lens` records;
:mod:`.render` makes a clip of it, :mod:`.writing` files in DAVIS layout, and :mod:`.caching` keeps them.
"""

from ivos.data.synthetic.cache import open_synthetic, synthetic_davis
from ivos.data.synthetic.config import SyntheticSpec
from ivos.data.synthetic.davis_writer import write_davis
from ivos.data.synthetic.render import render_clip

__all__ = ["SyntheticSpec", "open_synthetic", "render_clip", "synthetic_davis", "write_davis"]
