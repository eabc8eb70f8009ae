"""The program ``annotate.py`` (``ivos-annotate``), which imports PyTorch after it has served the page."""

import logging
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from ivos.app.access import token_of
from ivos.app.server import Server, Settings
from ivos.app.workspace import Workspace
from ivos.runtime.command_line import composing, configs, reported
from ivos.runtime.errors import UserError
from ivos.runtime.files import replacing
from ivos.runtime.machine import cores
from ivos.runtime.options import (
    NULL,
    SWITCH,
    TEXT,
    Options,
    Part,
    Rule,
    Seed,
    Text,
    TextOrNull,
    above,
    whole,
)
from ivos.runtime.renamed_options import rename_options
from ivos.runtime.signatures import check_options
from ivos.runtime.unused_options import given_options, unused_faults
from ivos.video.files import DataError
from ivos.video.folders import is_project, videos_in
from ivos.video.reader import Limits, Source, davis_sequences, is_davis, open_source

if TYPE_CHECKING:
    from ivos.engine import Segmenter

log = logging.getLogger(__name__)


_NAMES = Rule(
    lambda v: isinstance(v, list) and all(isinstance(one, str | int) for one in v), "a list of names"
)
Names = Annotated[list[str], _NAMES]


@dataclass
class SequencesOptions(Options):
    """Which videos of a folder in DAVIS layout are shown."""

    sequences: Annotated[str | list[str] | None, NULL | TEXT | _NAMES]


@dataclass
class StudyOptions(Options):
    """The options of a user study, see docs/guides/annotation.md."""

    folder: TextOrNull
    name: Text
    participants: Names
    sequences: Annotated[list[str] | None, NULL | _NAMES]
    rounds: Annotated[int | None, NULL | whole(1)]
    show_truth: bool


@dataclass
class AnnotationOptions(Options):
    """The options of annotate.py, whose values ``conf/annotate.yaml`` gives."""

    segmenter: Part
    video: Any
    data: SequencesOptions
    fps: Annotated[float, above(0, 1000)]
    num_objects: Annotated[int | None, NULL | whole(1, 254)]
    workspace: Text
    checkpoint: Any
    seed: Seed
    device: TextOrNull
    max_open_videos: Annotated[int, whole(1, 100)]
    host: Text
    port: Annotated[int, whole(0, 65535)]
    allowed_hosts: Names
    open_browser: Annotated[bool | None, NULL | SWITCH]
    classes: Names
    uploads: bool
    limits: Annotated[dict[str, Any], Rule(lambda v: isinstance(v, dict), "pixels and frames")]
    study: StudyOptions


def main() -> None:
    """Run the program with the options of the command line; study=FOLDER stands for study.folder=FOLDER."""
    sys.argv[1:] = [re.sub(r"^study=", "study.folder=", argument) for argument in sys.argv[1:]]
    with composing("video", open_groups=["segmenter"]):
        run()


@hydra.main(version_base="1.3", config_path=configs(), config_name="annotate")
def run(cfg: DictConfig) -> None:
    """Open the videos and serve the page until the program is interrupted."""
    with reported():
        rename_options(cfg)
        check(cfg)
        limits: Limits = instantiate(cfg.limits)
        root = Path(cfg.workspace)
        settings = Settings(
            token=token_of(root),
            host=cfg.host,
            port=cfg.port,
            allowed_hosts=list(cfg.allowed_hosts),
            open_browser=has_screen() if cfg.open_browser is None else cfg.open_browser,
            classes=[str(name) for name in cfg.classes],
        )
        if cfg.study.folder is not None:
            workspaces = open_study(cfg, root, limits, settings)
        else:
            sources = find_videos(cfg, limits)
            workspaces = [Workspace(root / name, one) for name, one in named(sources).items()]
            project = Project(cfg, root, limits)
            settings.find_new = project.find_new if project.folders else None
            settings.upload = project.upload if cfg.uploads else None
        for one in workspaces:
            settings.num_objects.setdefault(one.name, cfg.num_objects or count_objects(one.source))
        Server(workspaces, segmenter_maker(cfg, workspaces), settings, cfg.max_open_videos).run()


def check_values(cfg: DictConfig) -> None:
    """Check that all options exist, have possible values, and have an effect with the other options.

    The options of the segmenter are checked only if one was given, because their check imports PyTorch.

    Raises:
        UserError: An option does not exist, has a value that is not possible, or has no effect.
    """
    given = given_options(HydraConfig.get().overrides.task if HydraConfig.initialized() else [])
    options = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    if not any(name.startswith("segmenter.") for name in given):
        del options["segmenter"]
    check_options(options, AnnotationOptions)
    in_study = cfg.study.folder is not None
    unused = "a study shows the videos of study.folder; omit it"
    study_only = (in_study, "it is for a study; name one by study=FOLDER, or omit it")
    effects = {f"study.{name}": study_only for name in map(str, cfg.study) if name != "folder"}
    effects |= dict.fromkeys(("video", "data", "uploads"), (not in_study, unused))
    seeded = str(cfg.checkpoint) == "untrained"
    effects["seed"] = (seeded, "only the weights of checkpoint=untrained depend on it; omit it")
    if faults := unused_faults(cfg, given, effects):
        raise UserError("\n  ".join(faults))


def check(cfg: DictConfig) -> None:
    """Check all options before the videos are opened.

    Raises:
        UserError: An option cannot be used; the message names it.
    """
    check_values(cfg)
    if cfg.video is None and cfg.study.folder is None:
        raise UserError("video=FILE: name a video file, a folder of pictures or a folder in DAVIS layout")
    if "checkpoint" in cfg.segmenter and cfg.segmenter.checkpoint is None:
        raise UserError("segmenter.checkpoint: name a folder or a model of the hub, for this segmenter")
    checkpoint = str(cfg.checkpoint)
    is_path = bool({"/", "."} & set(checkpoint))  # other values are names of shipped weights
    if is_path and not Path(checkpoint).is_file():
        raise UserError(f"checkpoint={checkpoint}: no such file")
    if cfg.device not in (None, "cpu"):
        from ivos.engine.devices import choose_device

        choose_device(cfg.device)


def find_videos(cfg: DictConfig, limits: Limits) -> list[Source]:
    """Open the videos that the configuration names."""
    paths = list(cfg.video) if isinstance(cfg.video, ListConfig) else [cfg.video]
    wanted = cfg.data.sequences
    sequences = [wanted] if isinstance(wanted, str) else list(wanted or [])
    found = []
    for path in map(str, paths):
        if is_project(Path(path)):
            found += [
                open_source(each, None, limits, cfg.fps, faulty_later=True) for each in videos_in(Path(path))
            ]
            continue
        if sequences and not is_davis(path):
            raise UserError(f"data.sequences: {path} is not a folder in DAVIS layout (no JPEGImages)")
        for sequence in sequences or [None]:
            found.append(open_source(path, sequence, limits, cfg.fps, faulty_later=True))
    return found


class Project:
    """Folders of videos, to which videos can be added while the server runs, and the folder of uploads.

    Args:
        cfg: Configuration of the program.
        root: Folder of the workspaces.
        limits: Largest video that is accepted.
    """

    def __init__(self, cfg: DictConfig, root: Path, limits: Limits) -> None:
        paths = list(cfg.video) if isinstance(cfg.video, ListConfig) else [cfg.video]
        self.folders = [Path(str(path)) for path in paths if is_project(Path(str(path)))]
        self.root, self.limits, self.fps = root, limits, float(cfg.fps)
        self._refused: set[Path] = set()  # unreadable videos, each of which is reported only once

    def find_new(self, known: set[str]) -> list[Workspace]:
        """Open workspaces for the videos that have been added to the folders.

        Args:
            known: Names of the workspaces that are open already.
        """
        found = []
        for path in [one for folder in self.folders for one in videos_in(folder)]:
            name = workspace_name(path.stem if path.is_file() else path.name)
            if name in known or path in self._refused:
                continue
            try:
                source = open_source(path, None, self.limits, self.fps, faulty_later=True)
                found.append(Workspace(self.root / name, source))
                known.add(name)
            except UserError as error:
                self._refused.add(path)
                log.warning("%s is not added: %s", path, error)
        return found

    def upload(self, name: str, content: bytes, known: set[str]) -> Workspace:
        """Save an uploaded video file in the folder ``uploads``, and open its workspace.

        Raises:
            UserError: The name is in use, or the file is not a video.
        """
        folder = self.root / "uploads"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        if workspace_name(path.stem) in known or path.exists():
            raise UserError(f"{name}: a video of this name exists already; rename the file")
        with replacing(path) as temporary:
            temporary.write_bytes(content)
        try:
            source = open_source(path, None, self.limits, self.fps)
            return Workspace(self.root / workspace_name(path.stem), source)
        except UserError:
            path.unlink()
            raise


def workspace_name(name: str) -> str:
    """Return the name of a video with all characters replaced that the name of a workspace cannot have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "video"


def named(sources: list[Source]) -> dict[str, Source]:
    """Return the videos by the names of their workspaces.

    Raises:
        UserError: Two videos would have the same workspace.
    """
    names: dict[str, Source] = {}
    for one in sources:
        name = workspace_name(one.name)
        if name in names:
            raise UserError(f"{one.path} and {names[name].path} are both called {name}; rename one of them")
        names[name] = one
    return names


def count_objects(source: Source) -> int:
    """Return the number of objects in the first mask, or 1 if there is no readable mask."""
    try:
        return source.count_objects()
    except DataError as error:
        log.warning("the masks beside the frames are not used: %s", error)
        return 1


def has_screen() -> bool:
    """Return whether a browser can be opened on this machine."""
    return sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


def open_study(cfg: DictConfig, root: Path, limits: Limits, settings: Settings) -> list[Workspace]:
    """Open a workspace for each participant and sequence of a study."""
    from ivos.app.study import prepare

    options = cast(dict[str, Any], OmegaConf.to_container(cfg.study, resolve=True))
    folder = Path(options["folder"])
    if not is_davis(folder):
        raise UserError(f"study.folder={folder}: not a folder in DAVIS layout (no JPEGImages)")
    names = options["sequences"] or davis_sequences(folder)
    sources = [open_source(folder, name, limits, cfg.fps) for name in names]
    return prepare(root, sources, options, settings)


def segmenter_maker(cfg: DictConfig, workspaces: list[Workspace]) -> "Callable[[], Segmenter]":
    """Return a function that creates segmenters, which all share one network.

    The worker calls the function in its own thread. The network is loaded at the first call.
    """
    kept: list[Any] = []

    def make() -> "Segmenter":
        from hydra.utils import get_object

        from ivos.engine import takes_network

        if not kept:
            kept.append(_load(cfg) if takes_network(get_object(cfg.segmenter._target_)) else None)
            options = cast(dict[str, Any], OmegaConf.to_container(cfg.segmenter, resolve=True))
            metadata = {
                "checkpoint": str(cfg.checkpoint),
                "sha256": None if kept[0] is None else _digest(str(cfg.checkpoint)),
                "segmenter": options,
            }
            for one in workspaces:
                one.remember_network(metadata)
        network = [] if kept[0] is None else kept
        return cast("Segmenter", instantiate(cfg.segmenter, *network))

    return make


def _load(cfg: DictConfig) -> Any:
    import torch

    from ivos.engine.devices import choose_device
    from ivos.networks import load

    torch.set_num_threads(max(1, cores() - 1))  # leave one core to the server, which handles strokes
    return load(cfg.checkpoint, cfg.seed).to(choose_device(cfg.device))


def _digest(checkpoint: str) -> str | None:
    from ivos.networks.shipped import UNTRAINED, weights_file
    from ivos.runtime.command_line import sha256

    return None if checkpoint == UNTRAINED else sha256(weights_file(checkpoint))


if __name__ == "__main__":
    main()
