"""Former names of the segmenter at another size, which is now an option of :class:`ATNetSegmenter`."""

from typing import Any, Literal

from ivos.engine.atnet_segmenter import ATNetSegmenter
from ivos.networks import ATNet
from ivos.runtime.options import options_go_to


@options_go_to(ATNetSegmenter)
def atnet_segmenter(
    network: ATNet, short_side: int | Literal["trained"] | None = None, **options: Any
) -> ATNetSegmenter:
    """Return an :class:`ATNetSegmenter`; without options it works at frames' own size and without flow."""
    return ATNetSegmenter(network, short_side=short_side, **{"flow": False, **options})
