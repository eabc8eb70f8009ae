"""Synthetic video: textured figures that move, deform and occlude each other, and moving still images.

:mod:`.config` has the settings of a set of clips. :mod:`.textures`, :mod:`.figures` and :mod:`.sprites`
create the appearance of figures and backdrops, which :mod:`.scene_builder` places in a :mod:`.scene`.
:mod:`.camera_effects` adds the effects of a camera, and :mod:`.render` renders a clip. :mod:`.davis_writer`
writes clips in DAVIS layout, and :mod:`.cache` stores them. :mod:`.stills` makes clips of still images.
"""

from ivos.data.synthetic.cache import open_synthetic, synthetic_davis
from ivos.data.synthetic.config import SyntheticSpec
from ivos.data.synthetic.davis_writer import write_davis
from ivos.data.synthetic.render import render_clip

__all__ = ["SyntheticSpec", "open_synthetic", "render_clip", "synthetic_davis", "write_davis"]
