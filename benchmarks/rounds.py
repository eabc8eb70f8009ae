"""Compare the speed of ATNetSegmenter with that of the authors' released procedure for the same network.

The released procedure runs the whole T-Net for every object and every propagated frame in plain float32, and
keeps no results between objects and rounds. Both procedures run the same rounds on the same video
alternately. The first round annotates the middle of the video, so that it propagates in both directions.

    uv run benchmarks/rounds.py --objects 1 3 --frames 3
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle, islice

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ivos.engine import ATNetSegmenter, plan_round
from ivos.engine.padding import Padding
from ivos.interaction import Stroke, interaction_channels
from ivos.networks import ATNet, global_transfer


class Released:
    """The time-consuming part of the released procedure: each object alone, nothing kept."""

    def __init__(self, network: ATNet) -> None:
        self.network = network.eval()

    def start(self, frames: np.ndarray, num_objects: int) -> None:
        self.frames, self.num_objects = frames, num_objects
        self.padding = Padding.to_multiple_of_32(*frames.shape[1:3])
        size = (len(frames), num_objects, *self.padding.padded_size)
        self.probabilities = torch.zeros(size, device=self.network.mean.device)
        self.masks = np.zeros(frames.shape[:3], np.uint8)
        self.annotated: list[int] = []
        self.keys: list[Tensor] = []
        self.objects: list[list[Tensor]] = [[] for _ in range(num_objects)]

    def _image(self, frame: int) -> Tensor:
        padded = self.padding.pad(self.frames[frame].transpose(2, 0, 1))
        return self.network.normalise(torch.from_numpy(padded)[None].to(self.network.mean.device))

    @torch.inference_mode()
    def interact(self, frame: int, strokes: Sequence[Stroke]) -> np.ndarray:
        net, image = self.network, self._image(frame)
        plan = plan_round(frame, self.annotated, len(self.frames))
        previous = self.masks[frame] if self.annotated else None
        height, width = self.padding.height, self.padding.width
        channels = interaction_channels(strokes, previous, self.num_objects, height, width)
        interaction = torch.from_numpy(self.padding.pad(channels)).to(image.device)
        self.annotated.append(frame)
        for index in range(self.num_objects):
            logits, feature = net.anet(image, interaction[index : index + 1])
            features = net.tnet.features(image)
            if index == 0:
                self.keys.append(features.r5)
            self.objects[index].append(feature)
            self.probabilities[frame, index] = logits[0, 0].sigmoid()
            keys, objects = torch.stack(self.keys, 1), torch.stack(self.objects[index], 1)
            for way in (plan.backward, plan.forward):
                before, mask = features, logits.sigmoid()
                for target in way:
                    now = net.tnet.features(self._image(target))
                    local = net.tnet.local(now, before, mask)
                    moved = net.tnet.project(global_transfer(keys, objects, now.r5))
                    mask, before = net.tnet.decode(now, moved, local).sigmoid(), now
                    old, weight = self.probabilities[target, index], plan.weights[target]
                    self.probabilities[target, index] = weight * mask[0, 0] + (1 - weight) * old
        best, label = self.padding.crop(self.probabilities).max(1)
        chosen = torch.where(best > 0.8, label + 1, 0).to(torch.uint8).cpu().numpy()
        self.masks[plan.start : plan.end + 1] = chosen[plan.start : plan.end + 1]
        return self.masks


def lively(network: ATNet) -> ATNet:
    """Set weights with which outputs differ from pixel to pixel, so that differences are meaningful."""
    for parameter in network.parameters():
        if parameter.dim() == 4:
            torch.nn.init.normal_(parameter, 0, parameter[0].numel() ** -0.5)
    return network


def annotated_frames(num_frames: int, rounds: int) -> list[int]:
    """Return the frame that each round annotates: the middle, the last, the first, then the middle again."""
    order = dict.fromkeys([num_frames // 2, num_frames - 1, 0])
    return list(islice(cycle(order), rounds))


def seconds(run: Callable[[], object]) -> float:
    """Return the seconds that a run takes, including the pending work of a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--size", type=int, nargs=2, default=[480, 854], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--compile", default=None)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--width", type=int, default=64, help="width of the network; 64 is full size")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    network = ATNet(width=arguments.width, decoder_width=4 * arguments.width, normalize="rows")
    network = lively(network).to(device)
    fast = ATNetSegmenter(
        network, arguments.precision, compile=arguments.compile, channels_last=arguments.channels_last
    )
    released = Released(network)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (arguments.frames, *arguments.size, 3), np.uint8)
    table = Table(
        title=f"Seconds per round: {arguments.frames} frames of {frames.shape[2]}x{frames.shape[1]}"
    )
    for name in ("objects", "round", "released", "ours", "ratio", "largest difference"):
        table.add_column(name, justify="right")
    if device.type == "cuda":  # the first round loads kernels and compiles
        for segmenter in (released, fast):
            segmenter.start(frames, 1)
            segmenter.interact(0, [])
    for objects in arguments.objects:
        released.start(frames, objects)
        fast.start(frames, objects)
        for number, frame in enumerate(annotated_frames(arguments.frames, arguments.rounds)):
            path = [[0.2, 0.3], [0.4, 0.5]]
            strokes = [Stroke(path=path, object_id=label) for label in range(1, objects + 1)]
            masks_before = released.masks.copy()
            theirs = seconds(partial(released.interact, frame, strokes))
            fast_video = fast._video
            assert fast_video is not None
            fast_video.masks[:] = masks_before
            ours = seconds(partial(fast.interact, frame, strokes))
            probabilities = released.padding.crop(released.probabilities).cpu().numpy()
            difference = np.abs(probabilities - fast.probabilities).max()
            row = (f"{theirs:.2f}", f"{ours:.2f}", f"{theirs / ours:.2f}", f"{difference:.1e}")
            table.add_row(str(objects), str(number + 1), *row)
    Console().print(table)
    print(f"{device}, torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.precision}")


if __name__ == "__main__":
    main()
