"""A-Net and T-Net on a frozen pretrained encoder; T-Net reads masks from a memory of frames.

These two networks are not from the paper. They have the inputs and tasks of the paper's A-Net and T-Net: one
segments a frame from strokes, the other propagates masks through the video. Each first computes an estimate
by matching pretrained features, which needs no training: A-Net by the nearest neighbours of the pixels under
strokes, T-Net by label propagation from annotated and recent frames (the memory read of STCN, Cheng et al.,
NeurIPS 2021). Each then corrects its estimate with a trained decoder that also sees the image features.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ivos.kernels import local_transfer
from ivos.networks.atnet import ATNet, check_settings
from ivos.networks.decoder import add_image
from ivos.networks.encoders import TimmEncoder, cosine_key
from ivos.runtime.errors import UserError

LOG_ODDS = math.log(0.8 / 0.2)
"""Shift of logits that moves the decision threshold from a probability of 0.5 to the released 0.8."""
RECENT = 5
"""Number of latest frames of a propagation that the memory holds besides the annotated frames."""
TOP_K = 10  # memory positions that are averaged for each position of the target frame
TEMPERATURE = 0.05  # temperature of the softmax over similarities
RADIUS = 12  # largest distance of matched positions along each axis, in positions at stride 8
_SUB = 2  # the memory stores _SUB x _SUB mask values for each position at stride 8
_VALUE = 32  # channels of the object feature
_DISTANCE_WEIGHT = 1.0  # similarity subtracted per distance of one frame height


@dataclass(frozen=True)
class MemoryFeatures:
    """Image features of B images of H x W pixels, which both networks use for all objects and rounds."""

    key: Tensor  # unit vectors that the memory read matches, [B, C, H/8, W/8]
    local: Tensor  # features that the local transfer matches, [B, C', H/4, W/4]
    half: Tensor  # encoder features at stride 2, [B, C2, H/2, W/2]
    quarter: Tensor  # encoder features at stride 4, [B, C4, H/4, W/4]
    eighth: Tensor  # encoder features at stride 8, [B, C8, H/8, W/8]
    sixteenth: Tensor  # encoder features at stride 16, [B, C16, H/16, W/16]

    def pyramid(self) -> list[Tensor]:
        """Return the encoder's features from the finest to the coarsest."""
        return [self.half, self.quarter, self.eighth, self.sixteenth]


def twice_as_large(maps: Tensor) -> Tensor:
    """Enlarge maps [B, C, h, w] bilinearly to [B, C, 2h, 2w]."""
    return F.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1)


class _Residual(nn.Module):
    """Residual block of two 3x3 convolutions, initialised to the identity."""

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.second = _conv(width, width)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, width, h, w] to the same shape."""
        out: Tensor = x + self.second(F.relu(self.first(F.relu(x))))
        return out


class GuidedDecoder(nn.Module):
    """U-Net from frozen image features and guidance maps to logits at half the image's size.

    Args:
        channels: Numbers of channels of the image features at strides 2, 4, 8 and 16.
        guides: Numbers of channels of the guidance maps at strides 2, 4 and 8; 0 for no map at a stride.
        widths: Numbers of channels of the decoder at strides 2, 4, 8 and 16.
    """

    def __init__(
        self,
        channels: Sequence[int],
        guides: tuple[int, int, int],
        widths: tuple[int, int, int, int] = (16, 48, 64, 96),
    ) -> None:
        super().__init__()
        self.image = nn.ModuleList([nn.Conv2d(c, w, 1) for c, w in zip(channels, widths, strict=True)])
        self.guides = guides
        self.enter = nn.ModuleList([_conv(g, w) for g, w in zip(guides, widths[:3], strict=True) if g])
        self.down = nn.ModuleList([_conv(a, b, 2) for a, b in itertools.pairwise(widths)])
        self.context = nn.Linear(2 * widths[3], widths[3])
        self.bottom = nn.Sequential(*(_Residual(widths[3], d) for d in (1, 2, 1, 2)))
        self.reduce = nn.ModuleList([nn.Conv2d(b, a, 1) for a, b in itertools.pairwise(widths)])
        self.blocks = nn.ModuleList(
            [
                nn.Sequential(_Residual(widths[0])),
                nn.Sequential(_Residual(widths[1]), _Residual(widths[1])),
                nn.Sequential(_Residual(widths[2]), _Residual(widths[2])),
            ]
        )
        self.head = _conv(widths[0], 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def project(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Project the image features to the decoder's widths; the result is shared by all objects."""
        return [layer(feature) for layer, feature in zip(self.image, pyramid, strict=True)]

    def forward(self, image: Sequence[Tensor], guidance: Sequence[Tensor | None]) -> Tensor:
        """Decode N objects in each of B images.

        Args:
            image: Features that :meth:`project` returned, from the finest to the coarsest.
            guidance: Guidance maps at strides 2, 4 and 8, each [B N, channels, ...], or None where ``guides``
                is 0.

        Returns:
            Logits [B N, 1, H/2, W/2].
        """
        enter = iter(self.enter)
        entered = [next(enter)(guide) if guide is not None else None for guide in guidance]
        x, skips = entered[0], []
        assert x is not None
        for level in range(4):
            if level:
                x = self.down[level - 1](F.relu(x))
                if level < 3 and entered[level] is not None:
                    x = x + entered[level]
            x = add_image(x, image[level])
            skips.append(x)
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)
        x = self.bottom(x + self.context(pooled)[..., None, None])
        for level in (2, 1, 0):
            x = self.reduce[level](x)
            x = F.interpolate(x, skips[level].shape[-2:], mode="bilinear", align_corners=False)
            x = self.blocks[level](x + skips[level])
        logits: Tensor = self.head(F.relu(x))
        return logits


def stroke_maps(key: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Compare every position of an image with the positions under the strokes of each object.

    Args:
        key: Matching keys of the image, unit vectors [C, h, w].
        positive: Positions under each object's own strokes, bool [N, h, w].
        negative: Positions under the strokes of the other objects, bool [N, h, w].

    Returns:
        float32 [N, 8, h, w]: four maps for the positive strokes, then four for the negative strokes: the
        largest cosine similarity; the largest value of similarity minus distance; exp(-distance / quarter of
        the height); and 1. All four are 0 for an object without such strokes.
    """
    maps = key.new_zeros((len(positive), 8, *key.shape[1:]), dtype=torch.float32)
    for index, pair in enumerate(zip(positive, negative, strict=True)):
        for sign, strokes in enumerate(pair):
            under = strokes.flatten().nonzero()[:, 0]
            if len(under):
                maps[index, 4 * sign : 4 * sign + 4] = stroke_map(key, under)
    return maps


def stroke_map(key: Tensor, under: Tensor) -> Tensor:
    """Compare every position of an image with the positions under one object's positive or negative strokes.

    Args:
        key: Matching keys of the image, unit vectors [C, h, w].
        under: Flat indices (row-major) of the M >= 1 positions under the strokes, int64 [M].

    Returns:
        The four maps of :func:`stroke_maps` for these strokes, float32 [4, h, w].
    """
    height, width = key.shape[1:]
    flat = key.float().flatten(1)
    rows = torch.arange(height, device=key.device)[:, None].expand(-1, width).flatten()
    columns = torch.arange(width, device=key.device).expand(height, -1).flatten()
    places = torch.stack([rows, columns], 1).float() / height
    similarity = flat.T @ flat[:, under]
    distance = torch.cdist(places, places[under])
    nearest = distance.amin(1)
    close = (similarity - _DISTANCE_WEIGHT * distance).amax(1).clamp(min=-1)
    maps = torch.stack([similarity.amax(1), close, torch.exp(-4 * nearest), torch.ones_like(nearest)])
    return maps.view(4, height, width)


class StrokeANet(nn.Module):
    """A-Net on frozen features, which segments a frame from strokes on it.

    Args:
        channels: Numbers of channels of the encoder's features at strides 2, 4, 8 and 16.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.decoder = GuidedDecoder(channels, (3, 0, 8))

    def forward(self, features: MemoryFeatures, interaction: Tensor) -> Tensor:
        """Segment N objects in each of B images.

        Args:
            features: Features of the B images.
            interaction: Previous mask, positive and negative strokes [B N, 3, H, W].

        Returns:
            Logits [B N, 1, H/2, W/2].
        """
        images = len(features.key)
        strokes = F.max_pool2d(interaction[:, 1:], 8) > 0.5
        with torch.no_grad(), torch.autocast(interaction.device.type, enabled=False):
            maps = [
                stroke_maps(key, part[:, 0], part[:, 1])
                for key, part in zip(features.key, strokes.unflatten(0, (images, -1)), strict=True)
            ]
        return self.decode(features, interaction, torch.cat(maps))

    def decode(self, features: MemoryFeatures, interaction: Tensor, maps: Tensor) -> Tensor:
        """Segment as :meth:`forward` does, with given maps [B N, 8, H/8, W/8] of :func:`stroke_maps`."""
        half = F.avg_pool2d(interaction[:, :1], 2), F.max_pool2d(interaction[:, 1:], 2)
        logits: Tensor = self.decoder(
            self.decoder.project(features.pyramid()), [torch.cat(half, 1), None, maps]
        )
        return logits


@dataclass(frozen=True)
class MemoryFrame:
    """Entry of the memory for one frame of B videos with N objects each; h and w are at stride 8."""

    key: Tensor  # matching key [B, C, h, w]
    mask: Tensor  # mask at stride 4, each 2x2 values as channels, [B N, 4, h, w]
    value: Tensor  # object feature [B N, 32, h, w]

    def values(self) -> Tensor:
        """Return the mask and the object feature, concatenated to [B N, 36, h, w]."""
        return torch.cat([self.mask, self.value.float()], 1)


def read(target: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Read the memory: for each position of a target frame, average the values of similar positions.

    The average is over the :data:`TOP_K` most similar positions of all memory frames together that are at
    most :data:`RADIUS` positions away along each axis, weighted by a softmax of their similarities.

    Args:
        target: Matching keys of the target frame, unit vectors [B, C, h, w].
        keys: Matching keys of the K memory frames, each [B, C, h, w].
        values: Values of the K memory frames, each [B N, V, h, w].

    Returns:
        The averaged values [B N, V, h, w] and the largest similarity [B, 1, h, w], concatenated to
        [B N, V + 1, h, w].
    """
    return _average(similarities(target, keys), values)


def similarities(target: Tensor, keys: Sequence[Tensor]) -> Tensor:
    """Return the cosine similarity of each position of a target frame to each position of memory frames.

    Args:
        target: Matching keys of the target frame, unit vectors [B, C, h, w]; P = h w is the number of
            positions.
        keys: Matching keys of the K memory frames, each [B, C, h, w].

    Returns:
        The similarities, float32 [B, P, K P]; pairs that are more than :data:`RADIUS` positions apart along
        an axis have values far below -1.
    """
    height, width = target.shape[2:]
    query = target.float().flatten(2).transpose(1, 2)
    found = torch.cat([query @ key.float().flatten(2) for key in keys], 2)
    found.unflatten(2, (len(keys), -1)).add_(_far(height, width, target.device)[:, None])
    return found


def _average(similarity: Tensor, values: Sequence[Tensor]) -> Tensor:
    """Average the values of the most similar positions; see :func:`read`.

    Args:
        similarity: Result of :func:`similarities` [B, P, K P].
        values: Values of the K memory frames, each [B N, V, h, w].
    """
    images = len(similarity)
    best, where = similarity.topk(TOP_K, dim=2)
    weights = (best / TEMPERATURE).softmax(2)  # [B, P, k]
    flat = torch.cat([value.flatten(2) for value in values], 2).unflatten(0, (images, -1))
    found = []
    for image in range(images):
        picked = flat[image][:, :, where[image]]  # [N, V, P, k]
        found.append((picked * weights[image]).sum(-1))
    result = torch.stack(found).flatten(0, 1)
    largest = best[:, None, :, 0].expand(-1, len(result) // images, -1).flatten(0, 1)[:, None]
    return torch.cat([result, largest], 1).unflatten(2, values[0].shape[-2:])


_FAR: dict[tuple[int, int, torch.device], Tensor] = {}


def _far(height: int, width: int, device: torch.device) -> Tensor:
    """Return -10000 for the pairs of the P = height x width positions beyond the radius, else 0, [P, P]."""
    place = (height, width, device)
    if place not in _FAR:
        rows = torch.arange(height, device=device).repeat_interleave(width)
        columns = torch.arange(width, device=device).repeat(height)
        apart = torch.maximum((rows[:, None] - rows).abs(), (columns[:, None] - columns).abs())
        _FAR.clear()
        _FAR[place] = torch.where(apart <= RADIUS, 0.0, -1e4)
    return _FAR[place]


class MemoryTNet(nn.Module):
    """T-Net that reads masks and object features from annotated and recent frames.

    Args:
        channels: Numbers of channels of the encoder's features at strides 2, 4, 8 and 16.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.value_image = nn.Conv2d(channels[2] + channels[3], 48, 1)
        self.value_mask = _conv(32, 48)
        self.value_out = _conv(48, _VALUE)
        self.decoder = GuidedDecoder(channels, (2, 6, 2 * (_VALUE + 1)))

    def remember(self, features: MemoryFeatures, mask: Tensor, others: Tensor) -> MemoryFrame:
        """Return the memory entry of a frame.

        Args:
            features: Features of the frame in B videos.
            mask: Probabilities of the objects [B N, 1, H/2, W/2].
            others: For each object, the largest probability among the other objects [B N, 1, H/2, W/2].
        """
        quarter = F.avg_pool2d(mask, 2)
        deep = F.interpolate(
            features.sixteenth, features.eighth.shape[-2:], mode="bilinear", align_corners=False
        )
        image = self.value_image(torch.cat([features.eighth, deep], 1))
        both = torch.cat([F.pixel_unshuffle(mask, 4), F.pixel_unshuffle(others, 4)], 1)
        value = self.value_out(F.relu(add_image(self.value_mask(both), image)))
        return MemoryFrame(features.key, F.pixel_unshuffle(quarter, _SUB), value)

    def local(self, target: MemoryFeatures, previous: MemoryFeatures, mask: Tensor) -> Tensor:
        """Return the local transfer of the previous frame's mask, matched by the frozen features.

        Args:
            target: Features of the target frame, batch size B.
            previous: Features of the previous frame, batch size B.
            mask: Probabilities in the previous frame [B N, 1, h, w]; h and w are whole multiples of H/4 and
                W/4.

        Returns:
            The transferred probabilities [B N, 1, H/4, W/4].
        """
        quarter = F.avg_pool2d(mask, mask.shape[-1] // target.local.shape[-1])
        by_image = quarter.squeeze(1).unflatten(0, (len(target.local), -1))
        return local_transfer(target.local.float(), previous.local.float(), by_image).flatten(0, 1)[:, None]

    def forward(
        self,
        target: MemoryFeatures,
        previous: MemoryFeatures,
        mask: Tensor,
        annotated: Sequence[MemoryFrame],
        recent: Sequence[MemoryFrame],
    ) -> tuple[Tensor, Tensor]:
        """Propagate N objects of each of B videos to the target frame.

        Args:
            target: Features of the target frame, batch size B.
            previous: Features of the previous frame in the direction of propagation.
            mask: Probabilities in the previous frame [B N, 1, H/2, W/2].
            annotated: Memory entries of the annotated frames.
            recent: Memory entries of the latest frames that are not annotated; may be empty.

        Returns:
            Logits [B N, 1, H/2, W/2], and the mask read from the memory (label propagation alone) of the same
            shape.
        """
        with torch.autocast(target.key.device.type, enabled=False):
            frames = [*annotated, *recent]
            similarity = similarities(target.key, [frame.key for frame in frames])
            values = [frame.values() for frame in frames]
            of_annotated = all_read = _average(similarity, values)
            if recent:
                positions = similarity.shape[1] * len(annotated)
                of_annotated = _average(similarity[..., :positions], values[: len(annotated)])
            moved = self.local(target, previous, mask.float())
        return self.decode(target, all_read, of_annotated, moved)

    def decode(
        self, target: MemoryFeatures, all_read: Tensor, of_annotated: Tensor, moved: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decode the target frame from the memory readouts and the local transfer; see :meth:`forward`.

        Args:
            target: Features of the target frame, batch size B.
            all_read: Result of :func:`read` for all memory frames, float32 [B N, 37, H/8, W/8].
            of_annotated: Result of :func:`read` for the annotated frames alone, of the same shape.
            moved: Result of :meth:`local`, float32 [B N, 1, H/4, W/4].
        """
        images = target.half.shape[0]
        carried = F.pixel_shuffle(all_read[:, : _SUB**2], _SUB)
        first = F.pixel_shuffle(of_annotated[:, : _SUB**2], _SUB)
        maps = torch.cat([carried, first, moved], 1)
        base = twice_as_large(carried)
        guidance = [
            torch.cat([base, twice_as_large(moved)], 1),
            torch.cat([maps, others_of(maps, images)], 1),
            torch.cat([all_read[:, _SUB**2 :], of_annotated[:, _SUB**2 :]], 1),
        ]
        change = self.decoder(self.decoder.project(target.pyramid()), guidance)
        return torch.logit(base.clamp(0.02, 0.98)) + change.float(), base


def others_of(maps: Tensor, images: int) -> Tensor:
    """Return for each object the largest value among the other objects of its image.

    Args:
        maps: Non-negative values of the N objects in each image [B N, C, h, w].
        images: Number of images B.

    Returns:
        The largest values [B N, C, h, w]; 0 for an image with one object.
    """
    grouped = maps.unflatten(0, (images, -1))
    padded = F.pad(grouped, (0, 0, 0, 0, 0, 0, 0, 1))  # an object of zeros, so that N = 1 works
    top, which = padded.topk(2, dim=1)
    own = torch.arange(grouped.shape[1], device=maps.device).view(1, -1, 1, 1, 1)
    return torch.where(which[:, :1] == own, top[:, 1:], top[:, :1]).flatten(0, 1)


def image_features(encoder: TimmEncoder, images: Tensor) -> MemoryFeatures:
    """Return the frozen features of images.

    Args:
        encoder: The encoder.
        images: RGB in [0, 1], [B, 3, H, W], H and W multiples of 16.
    """
    half, quarter, eighth, sixteenth = encoder(images)
    key = cosine_key([quarter, eighth, sixteenth], eighth.shape[-2:])
    local = cosine_key([quarter, eighth], quarter.shape[-2:])
    return MemoryFeatures(
        key, local * (local.shape[1] / TEMPERATURE) ** 0.5, half, quarter, eighth, sixteenth
    )


class MemoryATNet(ATNet):
    """A-Net and T-Net on one frozen pretrained encoder: ``transfer="memory"``.

    The decoders' logits have their threshold at a probability of 0.5. The memory holds the latest
    :data:`RECENT` frames besides the annotated frames.

    Args:
        encoder: Name of a timm model; see :class:`ivos.networks.encoders.TimmEncoder`.
        short_side: See :class:`ATNet`.
        flow: See :class:`ATNet`.
    """

    MEAN, STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)  # identity, because the encoder normalises images itself

    anet: StrokeANet  # type: ignore[assignment]
    tnet: MemoryTNet  # type: ignore[assignment]

    def __init__(
        self,
        encoder: str = "tf_efficientnet_lite0",
        short_side: int | None = None,
        flow: bool | None = None,
    ) -> None:
        nn.Module.__init__(self)
        check_settings(short_side, flow)
        self.config = {"transfer": "memory", "encoder": encoder}
        self.short_side, self.flow = short_side, flow
        self.encoder = TimmEncoder(encoder)
        self.anet = StrokeANet(self.encoder.channels)
        self.tnet = MemoryTNet(self.encoder.channels)
        self._register_normalisation()

    def features(self, images: Tensor) -> MemoryFeatures:
        """Return the frozen features of images, RGB in [0, 1], [B, 3, H, W], H and W multiples of 32."""
        return image_features(self.encoder, images)

    negatives_everywhere = True
    flow_quality = "fast"
    click_radius = 0.02

    def annotate(self, images: Tensor, interaction: Tensor) -> Tensor:
        """Segment the objects in a frame from the strokes on it; see :meth:`ATNet.annotate`."""
        interaction = self.with_coarse_masks(images, interaction)
        half = self.anet(self.features(images), interaction)
        return twice_as_large(half.float()) + LOG_ODDS

    def with_coarse_masks(self, images: Tensor, interaction: Tensor) -> Tensor:
        """Replace the previous masks that are unknown by A-Net's own result at half the image's size.

        At half the size, A-Net sees twice as much of the surroundings of each position, so that it finds the
        whole of a large object; the pass at full size then corrects the outline. An object's previous mask is
        unknown if no pixel is above 0.5, although there are positive strokes: in the first round, for an
        object that was added later, and where propagation has lost the object.

        Args:
            images: RGB in [0, 1], H and W multiples of 32: the image of all objects [1, 3, H, W], or an image
                for each object [N, 3, H, W].
            interaction: Previous mask, positive and negative strokes of each object [N, 3, H, W].

        Returns:
            The interaction channels [N, 3, H, W]; new unless no previous mask was unknown.
        """
        previous, positive = (interaction[:, channel].flatten(1).amax(1) for channel in (0, 1))
        unknown = (previous <= 0.5) & (positive > 0.5)
        if not unknown.any():
            return interaction
        strokes = F.max_pool2d(interaction[unknown, 1:], 2)
        small = self.features(F.avg_pool2d(images if len(images) == 1 else images[unknown], 2))
        logits = self.anet(small, torch.cat([torch.full_like(strokes[:, :1], 0.5), strokes], 1))
        coarse = twice_as_large(logits.float()).sigmoid().to(interaction)
        known = interaction.clone()
        known[unknown, :1] = F.interpolate(coarse, scale_factor=2.0, mode="nearest")
        return known

    def to_released(self) -> dict[str, Tensor]:
        """Raise an error, because the authors' checkpoint format exists only for the paper's networks.

        Raises:
            UserError: Always.
        """
        raise UserError("only the paper's networks (model.transfer=paper) have the authors' parameter names")
