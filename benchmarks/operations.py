"""Where a round's time goes: the multiply-adds of each part and their seconds, plainly and in the engine.

"Plain" is the network as it is, "engine" its copy for inference (folded, split, Winograd), both for one
image, one annotation and one object. "At best" is what the multiply-adds would take at the rate of a plain
convolution.

    uv run benchmarks/operations.py
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ivos.engine.fused_layers import fast_copy
from ivos.networks import ATNet, affinity, readout
from ivos.networks.decoder import Decoder, scale_up

Part = Callable[[], object]


def parts(network: ATNet, image: Tensor, interaction: Tensor) -> dict[str, Part]:
    """What a round calls, by name, each on inputs that are there already."""
    anet, tnet = network.anet, network.tnet
    drawn = torch.cat([image, interaction], 1)
    pyramid, features = anet.encoder(drawn), tnet.features(image)
    logits, _, context = anet.decoder(pyramid.r5, *skips(anet.decoder, pyramid.r3, pyramid.r2))
    refined = torch.randn_like(anet.decoder.refine2.skip(pyramid.r2))
    both = torch.cat([refined, scale_up(context, 4)], 1)
    objects = torch.randn_like(pyramid.r5)
    weights = affinity(features.r5, features.r5)
    mask = logits.sigmoid()
    return {
        "A-Net: encoder": lambda: anet.encoder(drawn),
        "A-Net: skips of the refinements": lambda: skips(anet.decoder, pyramid.r3, pyramid.r2),
        "A-Net: reduction, refinements": lambda: refine(anet.decoder, pyramid.r5),
        "A-Net: ASPP": lambda: anet.decoder.aspp(pyramid.r5),
        "A-Net: head": lambda: anet.decoder.head(refined, context),
        "A-Net: converter": lambda: anet.converter(both, pyramid.r5),
        "T-Net, image: all": lambda: tnet.features(image),
        "T-Net, annotation: similarity": lambda: affinity(features.r5, features.r5),
        "T-Net, annotation and object: spread": lambda: readout(objects, weights),
        "T-Net, object: local transfer": lambda: tnet.local(features, features, mask),
        "T-Net, object: reduction, refinements": lambda: refine(tnet.decoder, pyramid.r5),
        "T-Net, object: ASPP": lambda: tnet.decoder.aspp(pyramid.r5),
        "T-Net, object: head": lambda: tnet.decoder.head(refined, context),
    }


def skips(decoder: Decoder, r3: Tensor, r2: Tensor) -> tuple[Tensor, Tensor]:
    return decoder.refine3.skip(r3), decoder.refine2.skip(r2)


def refine(decoder: Decoder, r5: Tensor) -> Tensor:
    m = r5
    for conv in decoder.reduce:
        m = conv(F.relu(m))
    height, width = (2 * length for length in m.shape[2:])
    m = decoder.refine3(m.new_zeros(1, m.shape[1], height, width), m)
    refined: Tensor = decoder.refine2(m.new_zeros(1, m.shape[1], 2 * height, 2 * width), m)
    return refined


def seconds(part: Part, turns: int) -> float:
    """Median over turns."""
    part()
    times = []
    for _ in range(turns):
        start = time.perf_counter()
        part()
        times.append(time.perf_counter() - start)
    return median(times)


def multiply_adds(part: Part) -> float:
    """In units of 1e9; matrix products and convolutions alone."""
    with FlopCounterMode(display=False) as counter:
        part()
    return float(counter.get_total_flops()) / 2e9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, nargs=2, default=[512, 864], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--width", type=int, default=64, help="of the network; 64 is full size")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    network = ATNet(width=arguments.width, decoder_width=4 * arguments.width).eval()
    image, interaction = torch.rand(1, 3, *arguments.size), torch.rand(1, 3, *arguments.size)
    table = Table(title=f"One frame of {arguments.size[1]}x{arguments.size[0]}, one object")
    for name in ("part", "10^9 multiply-adds", "at best, s", "plain, s", "engine, s", "plain / engine"):
        table.add_column(name, justify="left" if name == "part" else "right")
    with torch.inference_mode():
        convolution = nn.Conv2d(256, 256, 3, padding=1)
        pixels = torch.rand(1, 256, arguments.size[0] // 4, arguments.size[1] // 4)
        rate = multiply_adds(lambda: convolution(pixels)) / seconds(lambda: convolution(pixels), 5)
        plain = parts(network, image, interaction)
        fast = parts(fast_copy(network, winograd=True), image, interaction)
        for name in plain:
            count = multiply_adds(plain[name])
            before, ours = (seconds(each[name], arguments.turns) for each in (plain, fast))
            numbers = (f"{count:.1f}", f"{count / rate:.2f}", f"{before:.2f}", f"{ours:.2f}")
            table.add_row(name, *numbers, f"{before / ours:.2f}")
    Console(width=110).print(table)
    print(
        f"A plain 3x3 convolution of 256 channels: {rate:.0f} * 10^9 multiply-adds a second; "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    )


if __name__ == "__main__":
    main()
