"""Synthetic video: textured figures that move, bend and hide each other, and still pictures that move.

From the inside out: :mod:`.spec` says what a set of clips is like; :mod:`.textures`, :mod:`.figures` and
:mod:`.sprites` make what is seen; :mod:`.cast` places it in a :mod:`.scene`, which :mod:`.lens` records;
:mod:`.render` makes a clip of it, :mod:`.writing` files in DAVIS layout, and :mod:`.caching` keeps them.
"""

from ivos.data.synthetic.caching import open_synthetic, synthetic_davis
from ivos.data.synthetic.render import render_clip
from ivos.data.synthetic.spec import SyntheticSpec
from ivos.data.synthetic.writing import write_davis

__all__ = ["SyntheticSpec", "open_synthetic", "render_clip", "synthetic_davis", "write_davis"]
