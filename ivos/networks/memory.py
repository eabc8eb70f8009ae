"""A-Net and T-Net on frozen pretrained features: strokes matched to the image, masks read from a memory.

These two networks are ours, not the paper's. They have the same inputs and tasks as the paper's A-Net and
T-Net: one turns strokes into the mask of a frame, the other propagates masks through the video. Both start
from what pretrained features give without training: the nearest neighbours of the strokes' pixels, and
label propagation from annotated and recent frames (the memory read of STCN, Cheng et al., NeurIPS 2021).
Both learn a decoder that corrects this start with the features of the image.
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
"""What is added to logits that are even at 0, so that they are even at the released threshold of 0.8."""
RECENT = 5
"""How many of the latest frames of a propagation are read beside the annotated frames."""
TOP_K = 10
TEMPERATURE = 0.05
RADIUS = 12  # cells of 8 pixels
_SUB = 2  # each cell of a mask that is read has _SUB x _SUB values
_VALUE = 32  # channels of the object feature
_DISTANCE_WEIGHT = 1.0


@dataclass(frozen=True)
class MemoryFeatures:
    """Everything both networks take from one image alone, for images of H x W and B of them."""

    key: Tensor  # [B, C, H/8, W/8], matched by the memory read, of unit length
    local: Tensor  # [B, C', H/4, W/4], matched by the local transfer
    half: Tensor  # [B, C2, H/2, W/2], the encoder's features
    quarter: Tensor  # [B, C4, H/4, W/4]
    eighth: Tensor  # [B, C8, H/8, W/8]
    sixteenth: Tensor  # [B, C16, H/16, W/16]

    def pyramid(self) -> list[Tensor]:
        """Return the encoder's features from the finest to the coarsest."""
        return [self.half, self.quarter, self.eighth, self.sixteenth]


def twice_as_large(maps: Tensor) -> Tensor:
    """Enlarge maps [B, C, h, w] bilinearly to [B, C, 2h, 2w]."""
    return F.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1)


class _Residual(nn.Module):
    """Two 3x3 convolutions beside the identity; it begins as the identity."""

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.second = _conv(width, width)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, h, w] -> same."""
        out: Tensor = x + self.second(F.relu(self.first(F.relu(x))))
        return out


class GuidedDecoder(nn.Module):
    """U-Net over frozen image features and guidance maps, to logits at half the image's size.

    Args:
        channels: of the image features at strides 2, 4, 8 and 16.
        guides: channels of the guidance maps at strides 2, 4 and 8; 0 for none.
        widths: of the decoder at strides 2, 4, 8 and 16.
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
        """Bring the image features to the decoder's widths; this depends on the image alone."""
        return [layer(feature) for layer, feature in zip(self.image, pyramid, strict=True)]

    def forward(self, image: Sequence[Tensor], guidance: Sequence[Tensor | None]) -> Tensor:
        """Decode B N objects on B images.

        Args:
            image: of :meth:`project`, from the finest to the coarsest.
            guidance: maps at strides 2, 4 and 8, [B N, guides, ...], None where ``guides`` is 0.

        Returns:
            logits [B N, 1, H/2, W/2].
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
        key: unit vectors [C, h, w] of the image.
        positive: bool [N, h, w], where the object's strokes are.
        negative: bool [N, h, w], where the others' are.

    Returns:
        float32 [N, 8, h, w]: for positive and negative strokes each the greatest cosine similarity, the
        greatest similarity less the distance, exp(-distance / quarter of the height), and whether there are
        any strokes; 0 where there are none.
    """
    maps = key.new_zeros((len(positive), 8, *key.shape[1:]), dtype=torch.float32)
    for index, pair in enumerate(zip(positive, negative, strict=True)):
        for sign, strokes in enumerate(pair):
            under = strokes.flatten().nonzero()[:, 0]
            if len(under):
                maps[index, 4 * sign : 4 * sign + 4] = stroke_map(key, under)
    return maps


def stroke_map(key: Tensor, under: Tensor) -> Tensor:
    """Compare every position of an image with the positions under one kind of strokes.

    Args:
        key: unit vectors [C, h, w] of the image.
        under: the positions under the strokes, of h w in the order of rows, int64 [M], at least one.

    Returns:
        float32 [4, h, w], see :func:`stroke_maps`.
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
    """A-Net on frozen features: from strokes to the mask of their frame.

    Args:
        channels: of the encoder's features at strides 2, 4, 8 and 16.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.decoder = GuidedDecoder(channels, (3, 0, 8))

    def forward(self, features: MemoryFeatures, interaction: Tensor) -> Tensor:
        """Segment.

        Args:
            features: of B images.
            interaction: previous mask, positive and negative strokes [B N, 3, H, W].

        Returns:
            logits [B N, 1, H/2, W/2].
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
        """Segment with the strokes' maps [B N, 8, H/8, W/8] of :func:`stroke_maps`; see :meth:`forward`."""
        half = F.avg_pool2d(interaction[:, :1], 2), F.max_pool2d(interaction[:, 1:], 2)
        logits: Tensor = self.decoder(
            self.decoder.project(features.pyramid()), [torch.cat(half, 1), None, maps]
        )
        return logits


@dataclass(frozen=True)
class MemoryFrame:
    """What the memory keeps of a frame for N objects on B images."""

    key: Tensor  # [B, C, h, w] at 1/8
    mask: Tensor  # [B N, 4, h, w], the mask at 1/4, two by two
    value: Tensor  # [B N, 32, h, w], the object feature

    def values(self) -> Tensor:
        """Return what is read, mask and object feature, [B N, 36, h, w]."""
        return torch.cat([self.mask, self.value.float()], 1)


def read(target: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Read values of memory frames at each position of a target frame, by its most similar positions.

    The :data:`TOP_K` most similar positions within :data:`RADIUS` cells, over all frames together, are
    averaged by a softmax of their similarities.

    Args:
        target: unit vectors [B, C, h, w].
        keys: of K frames, each [B, C, h, w].
        values: of K frames, each [B N, V, h, w].

    Returns:
        the values read [B N, V, h, w] and the greatest similarity [B, 1, h, w], concatenated to
        [B N, V + 1, h, w].
    """
    images, _, height, width = target.shape
    near = _neighbourhood(height, width, target.device)
    query = target.float().flatten(2).transpose(1, 2)
    similarity = torch.cat([query @ key.float().flatten(2) for key in keys], 2)  # [B, P, K P]
    similarity.masked_fill_(~near.repeat(1, len(keys)), -1e4)
    best, where = similarity.topk(TOP_K, dim=2)
    weights = (best / TEMPERATURE).softmax(2)  # [B, P, k]
    flat = torch.cat([value.flatten(2) for value in values], 2).unflatten(0, (images, -1))
    found = []
    for image in range(images):
        picked = flat[image][:, :, where[image]]  # [N, V, P, k]
        found.append((picked * weights[image]).sum(-1))
    result = torch.stack(found).flatten(0, 1)
    sureness = best[:, None, :, 0].expand(-1, len(result) // images, -1).flatten(0, 1)[:, None]
    return torch.cat([result, sureness], 1).unflatten(2, (height, width))


_NEAR: dict[tuple[int, int, torch.device], Tensor] = {}


def _neighbourhood(height: int, width: int, device: torch.device) -> Tensor:
    """Return bool [P, P]: which positions lie within the radius of each other."""
    place = (height, width, device)
    if place not in _NEAR:
        rows = torch.arange(height, device=device).repeat_interleave(width)
        columns = torch.arange(width, device=device).repeat(height)
        apart = torch.maximum((rows[:, None] - rows).abs(), (columns[:, None] - columns).abs())
        _NEAR.clear()
        _NEAR[place] = apart <= RADIUS
    return _NEAR[place]


class MemoryTNet(nn.Module):
    """T-Net that reads masks and object features from annotated and recent frames.

    Args:
        channels: of the encoder's features at strides 2, 4, 8 and 16.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.value_image = nn.Conv2d(channels[2] + channels[3], 48, 1)
        self.value_mask = _conv(32, 48)
        self.value_out = _conv(48, _VALUE)
        self.decoder = GuidedDecoder(channels, (2, 6, 2 * (_VALUE + 1)))

    def remember(self, features: MemoryFeatures, mask: Tensor, others: Tensor) -> MemoryFrame:
        """Return the memory of a frame.

        Args:
            features: of B images.
            mask: the objects' probabilities [B N, 1, H/2, W/2].
            others: the probabilities that a pixel is of another object [B N, 1, H/2, W/2].
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
            target: the target frame's features, of batch B.
            previous: features of the frame before it.
            mask: that frame's probabilities [B N, 1, h, w], at any whole multiple of a quarter of the size.

        Returns:
            [B N, 1, H/4, W/4].
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
            target: the target frame's features, of batch B.
            previous: features of the frame before it in the direction of propagation.
            mask: that frame's probabilities [B N, 1, H/2, W/2].
            annotated: the annotated frames.
            recent: the latest frames, not annotated; may be empty.

        Returns:
            logits [B N, 1, H/2, W/2], and the mask that was read, the same shape: label propagation's result.
        """
        with torch.autocast(target.key.device.type, enabled=False):
            frames = [*annotated, *recent]
            all_read = read(target.key, [f.key for f in frames], [f.values() for f in frames])
            if recent:
                of_annotated = read(target.key, [f.key for f in annotated], [f.values() for f in annotated])
            else:
                of_annotated = all_read
            moved = self.local(target, previous, mask.float())
        return self.decode(target, all_read, of_annotated, moved)

    def decode(
        self, target: MemoryFeatures, all_read: Tensor, of_annotated: Tensor, moved: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decode what was read and moved to the target frame; see :meth:`forward`.

        Args:
            target: the target frame's features, of batch B.
            all_read: :func:`read` from all frames of the memory, float32 [B N, 37, H/8, W/8].
            of_annotated: the same from the annotated frames alone.
            moved: of :meth:`local`, float32 [B N, 1, H/4, W/4].
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
    """Return for each object the largest value among the image's other objects.

    Args:
        maps: values from 0 of the N objects on each image, [B N, C, h, w].
        images: B.

    Returns:
        [B N, C, h, w].
    """
    grouped = maps.unflatten(0, (images, -1))
    padded = F.pad(grouped, (0, 0, 0, 0, 0, 0, 0, 1))  # by an object of zeros, for an image with one object
    top, which = padded.topk(2, dim=1)
    own = torch.arange(grouped.shape[1], device=maps.device).view(1, -1, 1, 1, 1)
    return torch.where(which[:, :1] == own, top[:, 1:], top[:, :1]).flatten(0, 1)


def image_features(encoder: TimmEncoder, images: Tensor) -> MemoryFeatures:
    """Return the frozen features of images.

    Args:
        encoder: the encoder.
        images: RGB in [0, 1], [B, 3, H, W], H and W multiples of 32.
    """
    half, quarter, eighth, sixteenth = encoder(images)
    key = cosine_key([quarter, eighth, sixteenth], eighth.shape[-2:])
    local = cosine_key([quarter, eighth], quarter.shape[-2:])
    return MemoryFeatures(
        key, local * (local.shape[1] / TEMPERATURE) ** 0.5, half, quarter, eighth, sixteenth
    )


class MemoryATNet(ATNet):
    """A-Net and T-Net on one frozen pretrained encoder: ``transfer="memory"``.

    The masks that the decoders give are even at a probability of one half; :data:`RECENT` frames are read
    beside the annotated ones.

    Args:
        encoder: a timm model, see :class:`ivos.networks.encoders.TimmEncoder`.
        short_side: see :class:`ATNet`.
        flow: see :class:`ATNet`.
    """

    MEAN, STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)  # the encoder has its own

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

    def annotate(self, images: Tensor, interaction: Tensor) -> Tensor:
        """Segment the frames that strokes were drawn on; see :meth:`ATNet.annotate`."""
        half = self.anet(self.features(images), interaction)
        return twice_as_large(half.float()) + LOG_ODDS

    def to_released(self) -> dict[str, Tensor]:
        """Refuse: the authors' checkpoint holds the paper's networks.

        Raises:
            UserError: always.
        """
        raise UserError("only the paper's networks (model.transfer=paper) have the names of the release")
