"""Former interface for segmentation at a reduced size, now an option of :class:`ATNetSegmenter`."""

from typing import Any, Literal

from ivos.engine.atnet_segmenter import ATNetSegmenter
from ivos.networks import ATNet
from ivos.runtime.options import options_go_to


@options_go_to(ATNetSegmenter)
def atnet_segmenter(
    network: ATNet, short_side: int | Literal["trained"] | None = None, **options: Any
) -> ATNetSegmenter:
    """Return an :class:`ATNetSegmenter` that by default uses the frames' own size and no optical flow."""
    return ATNetSegmenter(network, short_side=short_side, **{"flow": False, **options})
