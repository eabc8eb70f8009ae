"""The correlation as matrix products in PyTorch, for the CPU and for devices other than NVIDIA GPUs.

Displacements are multiples of the dilation, so that a pixel is only compared with pixels of its own residue
class (y mod dilation, x mod dilation). Within a class, the displacements are -r..r in steps of one, and a
tile of 2 x 8 target pixels is compared with a window of (2 + 2r) x (8 + 2r) reference pixels. This is one
matrix product over the channels, from which only the band of pairs within the radius is used. Half of the
products are wasted, but the method is still many times faster than one shifted product per displacement,
which is limited by memory bandwidth. The gradients are the transposed products: the band, filled with
weights, times the window.

Pixels are stored as rows of channels (a `tape`: [classes, rows, columns, C], with a margin of zeros if
needed), so that a window is a view of the tape after its columns have been copied side by side.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

TILE_ROWS, TILE_COLUMNS = 2, 8
# Number of pixel rows that are converted at a time between channels-first and channels-last. On the CPU so
# many rows fit into the cache; on other devices all rows are converted at once, because launches are
# expensive.
ROWS_AT_A_TIME = {"cpu": 8}


def accumulation_type(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which sums are accumulated: float32 for half precision, else the type itself."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


@dataclass(frozen=True)
class Lattice:
    """The division of h x w pixels into classes, and of a class into tiles of TILE_ROWS x TILE_COLUMNS."""

    height: int
    width: int
    radius: int
    dilation: int

    @property
    def side(self) -> int:
        """The number of displacements along an axis."""
        return 2 * self.radius + 1

    @property
    def tiles(self) -> tuple[int, int]:
        """The number of tiles of the largest class, vertically and horizontally."""
        rows, columns = -(-self.height // self.dilation), -(-self.width // self.dilation)
        return -(-rows // TILE_ROWS), -(-columns // TILE_COLUMNS)

    @property
    def window(self) -> tuple[int, int]:
        """The numbers of rows and columns of the window with which a tile is compared."""
        return TILE_ROWS + 2 * self.radius, TILE_COLUMNS + 2 * self.radius

    @property
    def residues(self) -> tuple[range, range]:
        """The residues of y and of x for which there are pixels."""
        return range(min(self.dilation, self.height)), range(min(self.dilation, self.width))

    def tape(self, features: Tensor, margin: int) -> Tensor:
        """Return a tape of zeros for the classes of one residue of y: [residues of x, rows, columns, C].

        The same tape is reused for all residues, because it stays in the cache, and because the first access
        to new memory is slow.
        """
        rows, columns = self.tiles[0] * TILE_ROWS, self.tiles[1] * TILE_COLUMNS
        shape = (len(self.residues[1]), rows + 2 * margin, columns + 2 * margin, features.shape[1])
        return features.new_zeros(shape, dtype=accumulation_type(features.dtype))

    def chunks(self, residue: int, device: torch.device) -> Iterator[tuple[slice, slice]]:
        """Yield slices of the image's rows with this residue of y, and the same rows in the class."""
        rows = range(residue, self.height, self.dilation)
        count = ROWS_AT_A_TIME.get(device.type, len(rows))
        for first in range(0, len(rows), count):
            some = rows[first : first + count]
            yield slice(some[0], some[-1] + 1, self.dilation), slice(first, first + len(some))

    def load(self, tape: Tensor, margin: int, features: Tensor, residue: int) -> None:
        """Copy the rows of features [C, h, w] with this residue of y into a tape; the margin stays zero."""
        inner = tape[:, margin:, margin:]
        for there, here in self.chunks(residue, tape.device):
            pixels = (
                features[:, there].contiguous().flatten(1).t().contiguous().unflatten(0, (-1, self.width))
            )
            for x in self.residues[1]:
                columns = pixels[:, x :: self.dilation]
                inner[x, here, : columns.shape[1]] = columns
        inner[:, here.stop :].zero_()  # the previous class may have had one more row

    def unload(self, tape: Tensor, features: Tensor, residue: int) -> None:
        """Copy a tape without a margin into the rows of features [C, h, w] with this residue of y."""
        for there, here in self.chunks(residue, tape.device):
            pixels = tape.new_empty((here.stop - here.start, self.width, features.shape[0]))
            for x in self.residues[1]:
                columns = pixels[:, x :: self.dilation]
                columns.copy_(tape[x, here, : columns.shape[1]])
            features[:, there] = pixels.flatten(0, 1).t().contiguous().view(-1, *pixels.shape[:2])

    def windows(self, tape: Tensor, tile_column: int) -> Tensor:
        """Return the window of each tile in a column of tiles, [tiles down, window pixels, C].

        The windows overlap, so the result is a view of one copy of the pixels.

        Args:
            tape: Pixels of a class, [rows, columns, C].
            tile_column: Number of the column of tiles.
        """
        tall, wide = self.window
        channels = tape.shape[-1]
        strip = tape[:, tile_column * TILE_COLUMNS : tile_column * TILE_COLUMNS + wide].contiguous()
        step = TILE_ROWS * wide * channels
        return strip.as_strided((self.tiles[0], tall * wide, channels), (step, channels, 1))

    def band(self, products: Tensor) -> Tensor:
        """Return the products of pairs within the radius, as a view [tiles, 2, 8, side, side].

        Args:
            products: Products of all pixels of a tile with all pixels of its window, [tiles, tile pixels,
                window pixels].
        """
        tall, wide = self.window
        pixels = tall * wide
        shape = (products.shape[0], TILE_ROWS, TILE_COLUMNS, self.side, self.side)
        strides = (TILE_ROWS * TILE_COLUMNS * pixels, TILE_COLUMNS * pixels + wide, pixels + 1, wide, 1)
        return products.as_strided(shape, strides)

    def pairs(
        self, band: Tensor, volume: Tensor, y: int, x: int, column: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield corresponding views of the band of a column of tiles and of a volume [side, side, h, w].

        Args:
            band: Band of a column of tiles; see :meth:`band`.
            volume: Correlation or weights, [side, side, h, w].
            y: Residue of y of the class.
            x: Residue of x of the class.
            column: Number of the column of tiles.
        """
        step = self.dilation
        columns = volume[..., x + column * TILE_COLUMNS * step :: step][..., :TILE_COLUMNS]
        for i in range(TILE_ROWS):
            there = columns[:, :, y + i * step :: TILE_ROWS * step]
            tiles, across = there.shape[2:]
            yield band[:tiles, i, :across].permute(2, 3, 0, 1), there


def correlation(target: Tensor, reference: Tensor, radius: int, dilation: int) -> Tensor:
    """Return the correlation [B, side^2, h, w], contiguous; see `ivos.kernels.correlation`."""
    batch, channels, height, width = target.shape
    cpu = Lattice(height, width, radius, dilation)
    volume = target.new_empty((batch, cpu.side, cpu.side, height, width))
    if volume.numel() == 0:
        return volume.flatten(1, 2)
    centres, surroundings = cpu.tape(target, 0), cpu.tape(reference, radius)
    products = centres.new_empty((cpu.tiles[0], TILE_ROWS * TILE_COLUMNS, prod(cpu.window)))
    band = cpu.band(products)
    for entry, y in product(range(batch), cpu.residues[0]):
        cpu.load(centres, 0, target[entry], y)
        cpu.load(surroundings, radius, reference[entry], y)
        centres /= channels
        for x, column in product(cpu.residues[1], range(cpu.tiles[1])):
            pixels = slice(column * TILE_COLUMNS, (column + 1) * TILE_COLUMNS)
            tiles = centres[x, :, pixels].reshape(-1, TILE_ROWS * TILE_COLUMNS, channels)
            torch.bmm(tiles, cpu.windows(surroundings[x], column).transpose(1, 2), out=products)
            for here, there in cpu.pairs(band, volume[entry], y, x, column):
                there.copy_(here)
    return volume.flatten(1, 2)


def gather(weights: Tensor, displaced: Tensor, radius: int, dilation: int) -> Tensor:
    """Sum over displacements d of weights[:, d](y, x) * displaced(y + dy, x + dx), divided by C.

    Args:
        weights: Weights [B, side^2, h, w].
        displaced: Features [B, C, h, w].
        radius: See `ivos.kernels.correlation`.
        dilation: See `ivos.kernels.correlation`.

    Returns:
        The sums [B, C, h, w], contiguous, of the type of `displaced`.
    """
    batch, channels, height, width = displaced.shape
    cpu = Lattice(height, width, radius, dilation)
    gathered = torch.empty_like(displaced, memory_format=torch.contiguous_format)
    if displaced.numel() == 0:
        return gathered
    surroundings, out = cpu.tape(displaced, radius), cpu.tape(displaced, 0)
    banded = out.new_zeros((cpu.tiles[0], TILE_ROWS * TILE_COLUMNS, prod(cpu.window)))
    band = cpu.band(banded)
    volume = weights.unflatten(1, (cpu.side, cpu.side))
    for entry, y in product(range(batch), cpu.residues[0]):
        cpu.load(surroundings, radius, displaced[entry], y)
        for x, column in product(cpu.residues[1], range(cpu.tiles[1])):
            # Weights that remain from another class belong to pixels outside the image, which are never read.
            for here, there in cpu.pairs(band, volume[entry], y, x, column):
                here.copy_(there)
            tiles = torch.bmm(banded, cpu.windows(surroundings[x], column))
            pixels = slice(column * TILE_COLUMNS, (column + 1) * TILE_COLUMNS)
            out[x, :, pixels] = tiles.view(-1, TILE_COLUMNS, channels)
        out /= channels
        cpu.unload(out, gathered[entry], y)
    return gathered


def transpose(volume: Tensor, radius: int, dilation: int) -> Tensor:
    """Exchange the roles of both pixels of each displacement: out[d](q) = volume[-d](q + d), zero outside.

    Args:
        volume: Correlation or weights, [B, side^2, h, w].
        radius: See `ivos.kernels.correlation`.
        dilation: See `ivos.kernels.correlation`.
    """
    side, (height, width) = 2 * radius + 1, volume.shape[-2:]
    out = torch.zeros_like(volume, memory_format=torch.contiguous_format)
    for d in range(side * side):
        dy, dx = (d // side - radius) * dilation, (d % side - radius) * dilation
        if abs(dy) >= height or abs(dx) >= width:
            continue
        to_y, to_x = slice(max(-dy, 0), height - max(dy, 0)), slice(max(-dx, 0), width - max(dx, 0))
        from_y, from_x = slice(max(dy, 0), height + min(dy, 0)), slice(max(dx, 0), width + min(dx, 0))
        out[:, d, to_y, to_x] = volume[:, -1 - d, from_y, from_x]
    return out


def correlation_gradient(
    grad: Tensor, displaced: Tensor, transposed: bool, radius: int, dilation: int
) -> Tensor:
    """Return the gradient with respect to the target or, if `transposed`, with respect to the reference.

    `displaced` is the other one of the two feature maps.
    """
    weights = transpose(grad, radius, dilation) if transposed else grad
    return gather(weights, displaced, radius, dilation)


def unfold(maps: Tensor, radius: int, dilation: int) -> Tensor:
    """Return the window around each pixel of maps [B, N, h, w] with zero padding: [B, N, side^2, h, w]."""
    side, (height, width) = 2 * radius + 1, maps.shape[-2:]
    if height == 0 or width == 0:  # F.unfold refuses empty maps
        return maps[:, :, None].expand(-1, -1, side * side, -1, -1)
    windows = F.unfold(maps, side, dilation=dilation, padding=radius * dilation)
    return windows.view(*maps.shape[:2], side * side, height, width)


def local_transfer(
    target: Tensor, reference: Tensor, mask: Tensor, radius: int, dilation: int
) -> tuple[Tensor, Tensor]:
    """Return the moved masks [B, N, h, w] and the log-sum-exp [B, h, w] in the accumulation type."""
    wide = accumulation_type(target.dtype)
    volume = correlation(target.to(wide), reference.to(wide), radius, dilation)
    log_sum = volume.logsumexp(1)
    weights = (volume - log_sum[:, None]).exp_()
    moved = [
        (weights * unfold(one[:, None], radius, dilation)[:, 0]).sum(1) for one in mask.to(wide).unbind(1)
    ]
    return (torch.stack(moved, 1) if moved else mask.to(wide)), log_sum


def local_transfer_gradient(
    grad: Tensor,
    target: Tensor,
    reference: Tensor,
    mask: Tensor,
    moved: Tensor,
    log_sum: Tensor,
    needs: tuple[bool, bool],
    radius: int,
    dilation: int,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients with respect to target, reference and mask, or None for those not needed.

    The two values of `needs` tell whether the gradients of the features and of the mask are needed.
    """
    wide = accumulation_type(target.dtype)
    grad, masks = grad.to(wide), mask.to(wide)
    volume = correlation(target.to(wide), reference.to(wide), radius, dilation)
    weights = volume.sub_(log_sum[:, None]).exp_()
    of_target = of_reference = of_mask = None
    if needs[1]:
        met = transpose(weights, radius, dilation)
        windows = (unfold(one[:, None], radius, dilation)[:, 0] for one in grad.unbind(1))
        of_mask = torch.stack([(met * window).sum(1) for window in windows], 1).to(mask.dtype)
    if needs[0]:
        change = -(grad * moved).sum(1, keepdim=True).expand_as(weights)
        for n in range(mask.shape[1]):
            change = change + grad[:, n, None] * unfold(masks[:, n, None], radius, dilation)[:, 0]
        weights *= change
        of_target = gather(weights, reference, radius, dilation)
        of_reference = gather(transpose(weights, radius, dilation), target, radius, dilation)
    return of_target, of_reference, of_mask
