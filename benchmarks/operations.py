"""Measure the multiply-adds and the time of each part of a round, in the plain network and in the engine.

"Plain" is the original network, and "engine" is its copy for inference (folded batch norms, split heads,
Winograd on a CPU), both for one image, one annotation and one object. "At best" is the time that the
multiply-adds would take at the rate of a plain convolution.

    uv run benchmarks/operations.py
    uv run benchmarks/operations.py --device cuda
"""

import argparse
import time
from collections.abc import Callable, Sequence
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
    """Return the parts of a round by name, each as a call on inputs that exist already."""
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


def seconds(part: Part, turns: int, device: torch.device) -> float:
    """Return the median seconds of a part over several turns, after one to warm up."""
    part()
    times = []
    for _ in range(turns):
        start = clock(device)
        part()
        times.append(clock(device) - start)
    return median(times)


def clock(device: torch.device) -> float:
    """Return the time in seconds when the device has finished all of its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def multiply_adds(part: Part) -> float:
    """Return the multiply-adds of a part's matrix products and convolutions, in units of 1e9."""
    with FlopCounterMode(display=False) as counter:
        part()
    return float(counter.get_total_flops()) / 2e9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, nargs=2, default=[512, 864], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--width", type=int, default=64, help="width of the network; 64 is full size")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    with torch.inference_mode():
        table, rate = measure(device, tuple(arguments.size), arguments.width, arguments.turns)
    Console(width=110).print(table)
    print(
        f"A plain 3x3 convolution of 256 channels: {rate:.0f} * 10^9 multiply-adds a second; "
        f"{device}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    )


def measure(
    device: torch.device, size: tuple[int, int], width: int, turns: int, depths: Sequence[int] = (3, 4, 6, 3)
) -> tuple[Table, float]:
    """Return the table of a round's parts, and the rate of a plain convolution in 1e9 multiply-adds/s."""
    torch.manual_seed(0)
    network = ATNet(width=width, depths=depths, decoder_width=4 * width).eval().to(device)
    image, interaction = torch.rand(1, 3, *size).to(device), torch.rand(1, 3, *size).to(device)
    table = Table(title=f"One frame of {size[1]}x{size[0]}, one object, {device}, milliseconds")
    for name in ("part", "10^9 multiply-adds", "at best", "plain", "engine", "plain / engine"):
        table.add_column(name, justify="left" if name == "part" else "right")
    convolution = nn.Conv2d(256, 256, 3, padding=1).to(device)
    pixels = torch.rand(1, 256, size[0] // 4, size[1] // 4).to(device)
    rate = multiply_adds(lambda: convolution(pixels)) / seconds(lambda: convolution(pixels), 5, device)
    plain = parts(network, image, interaction)
    fast = parts(fast_copy(network, winograd=device.type == "cpu"), image, interaction)
    for name in plain:
        count = multiply_adds(plain[name])
        before, ours = (seconds(each[name], turns, device) for each in (plain, fast))
        numbers = [count / rate, before, ours]
        milliseconds = [f"{1e3 * number:.4g}" for number in numbers]
        table.add_row(name, f"{count:.1f}", *milliseconds, f"{before / ours:.2f}")
    return table, rate


if __name__ == "__main__":
    main()
