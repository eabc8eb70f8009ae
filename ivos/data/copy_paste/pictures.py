"""Pictures of which copy-paste clips are composed."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from ivos.data.copy_paste.config import INVERSE_MAP, Float, Image
from ivos.data.copy_paste.motion import rotation
from ivos.data.synthetic.sprites import picture_files, sprite_files, sprite_labels
from ivos.runtime.renamed_options import accept_former_keywords
from ivos.video.files import DataError, files_in
from ivos.video.labels import VOID


@accept_former_keywords(subset="split")
class Pictures:
    """Pictures of a folder, held in memory at full, half and quarter size.

    Attributes:
        names: The names of the files.
        levels: The three sizes of each picture, uint8 RGB [h, w, 3].
        objects: For each masked object of at least 16 pixels, the index of its picture and its mask, uint8
            [h, w] of 0 and 1.
        cutouts: For each cut-out, its colours, uint8 RGB [h, w, 3], and its alpha, float32 [h, w] in [0, 1].

    Args:
        folder: A folder of JPEG and PNG files, whose subfolders are ignored; or a folder with subfolders
            ``images`` and ``masks`` that contain files of equal names, as in data sets of still images with
            masks. In masks, 0 is background and 255 is void, or the object if there are no other values.
        height: Larger pictures are reduced to this height in pixels.
        split: ``all``, ``train`` or ``val``. Every eighth picture, starting with the first, belongs to
            ``val``, the others to ``train``.
        cutouts: A folder of PNG files with an alpha channel, which are used as objects but not as backdrops
            and are split in the same way; None uses no cut-outs.

    Raises:
        DataError: The folder does not exist or has no picture of the split, pictures cannot be read (all of
            them are named), or masks do not match their pictures.
    """

    def __init__(
        self,
        folder: str | Path | None,
        height: int = 432,
        split: str = "all",
        cutouts: str | Path | None = None,
    ) -> None:
        if folder is None:
            raise DataError("pictures: a folder of pictures is needed: pictures=FOLDER")
        chosen = {"all": lambda i: True, "train": lambda i: i % 8, "val": lambda i: i % 8 == 0}
        if split not in chosen:
            raise DataError(f"pictures have no split {split!r}; the splits are: {', '.join(chosen)}")
        root = Path(folder)
        masked = (root / "images").is_dir() and (root / "masks").is_dir()
        every = sprite_files(str(root)) if masked else [(path, None) for path in picture_files(root)]
        pairs = [pair for i, pair in enumerate(every) if chosen[split](i)]
        files = [path for path, _ in pairs]
        if not files:
            raise DataError(f"{folder}: a single picture is not enough for the split {split!r}")
        found = [cv2.imread(str(path), cv2.IMREAD_COLOR) for path in files]
        if broken := [path.name for path, picture in zip(files, found, strict=True) if picture is None]:
            raise DataError(f"{folder}: {len(broken)} of {len(files)} pictures cannot be read", broken)
        self.names = [path.name for path in files]
        self.cutouts = [] if cutouts is None else _read_cutouts(Path(cutouts), height, chosen[split])
        self.levels: list[list[Image]] = []
        self.objects: list[tuple[int, Image]] = []
        for picture, (path, mask) in zip(found, pairs, strict=True):
            if picture is None:
                continue
            labels = None if mask is None else sprite_labels(path, mask)
            image = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
            if min(image.shape[:2]) < 32:
                raise DataError(f"{folder}: all pictures must have at least 32 x 32 pixels")
            if image.shape[0] > height:
                width = max(32, round(image.shape[1] * height / image.shape[0]))
                image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            if labels is not None:
                size = (image.shape[1], image.shape[0])
                labels = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), np.uint8)
                shown = np.flatnonzero(np.bincount(labels.ravel(), minlength=256)[1:VOID] >= 16) + 1
                self.objects += [(len(self.levels), (labels == one).astype(np.uint8)) for one in shown]
            pyramid = [np.asarray(image, np.uint8)]
            for _ in range(2):
                pyramid.append(np.asarray(cv2.pyrDown(pyramid[-1]), np.uint8))
            self.levels.append(pyramid)

    def __len__(self) -> int:
        return len(self.levels)

    def patch(
        self, number: int, size: tuple[int, int], scale: float, turn: float, rng: np.random.Generator
    ) -> Image:
        """Cut a rotated piece out of a picture at a random place; the picture is mirrored at its borders.

        Args:
            number: Index of the picture.
            size: Height and width of the piece.
            scale: Pixels of the picture per pixel of the piece.
            turn: Rotation in radians.
            rng: Generator that draws the place.

        Returns:
            The piece, uint8 RGB [height, width, 3].
        """
        level = int(np.clip(np.floor(np.log2(max(scale, 1e-3)) + 0.5), 0, 2))
        image = self.levels[number][level]
        scale /= 2**level
        centre = rng.uniform(0, 1, 2) * image.shape[1::-1]
        matrix = scale * rotation(turn)
        offset = centre - matrix @ (np.array(size[::-1]) / 2)
        return np.asarray(
            cv2.warpAffine(
                image,
                np.column_stack([matrix, offset]),
                size[::-1],
                flags=INVERSE_MAP,
                borderMode=cv2.BORDER_REFLECT_101,
            ),
            np.uint8,
        )


def _read_cutouts(folder: Path, height: int, chosen: Callable[[int], object]) -> list[tuple[Image, Float]]:
    """Read the cut-outs of a folder, reduced to ``height`` and cropped to their visible part.

    Raises:
        DataError: The folder does not exist, or a file in it is not a PNG with an alpha channel.
    """
    files = files_in(folder, ".png")
    if not files:
        raise DataError(f"{folder}: no cut-outs (PNG files with an alpha channel)")
    found: list[tuple[Image, Float]] = []
    problems: list[str] = []
    for path in (path for index, path in enumerate(files) if chosen(index)):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if image is None or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 4:
            problems.append(f"{path}: not an 8-bit PNG with an alpha channel")
            continue
        x, y, w, h = cv2.boundingRect((image[..., 3] > 0).astype(np.uint8))
        if min(w, h) < 8:
            problems.append(f"{path}: entirely transparent, or smaller than 8 pixels")
            continue
        cut = image[y : y + h, x : x + w].astype(np.float32)
        alpha = cut[..., 3:] / 255
        colours = np.concatenate([cut[..., 2::-1] * alpha, alpha], 2)
        if h > height:  # colours are weighted by alpha, because those of transparent pixels are arbitrary
            size = (max(8, round(w * height / h)), height)
            colours = np.asarray(cv2.resize(colours, size, interpolation=cv2.INTER_AREA), np.float32)
        rgb = np.clip(colours[..., :3] / np.maximum(colours[..., 3:], 1e-3), 0, 255).astype(np.uint8)
        found.append((rgb, np.ascontiguousarray(colours[..., 3])))
    if problems:
        raise DataError(f"{folder}: unusable cut-outs", problems)
    return found
