"""Collections of videos: folders of videos, and text files that list videos."""

from pathlib import Path

from ivos.video.files import DataError, natural_order, pictures_in
from ivos.video.reader import is_davis

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
LIST_SUFFIX = ".txt"


def is_project(path: Path) -> bool:
    """Return whether a folder contains videos (files, or folders of pictures) and is not a video itself."""
    return path.is_dir() and not is_davis(path) and not pictures_in(path) and bool(videos_in(path))


def videos_in(folder: Path) -> list[Path]:
    """Return the video files and the folders of pictures in a folder, in natural order."""
    found = [
        one
        for one in folder.iterdir()
        if not one.name.startswith(".")
        and ((one.is_file() and one.suffix.lower() in VIDEO_SUFFIXES) or (one.is_dir() and pictures_in(one)))
    ]
    return sorted(found, key=lambda one: natural_order(one.name.lower()))


def listed_videos(path: Path) -> list[Path]:
    """Return the videos that a text file lists, one per line; a line that begins with ``#`` is a comment.

    Relative paths are relative to the folder of the list.

    Raises:
        DataError: The file cannot be read, is empty, or lists a path that does not exist.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable list of videos ({error})") from error
    found = []
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        video = path.parent / Path(name).expanduser()
        if not video.exists():
            raise DataError(f"{path}: line {number}: {name}: no such file or folder")
        found.append(video)
    if not found:
        raise DataError(f"{path}: lists no videos")
    return found


def all_videos(path: Path) -> list[Path]:
    """Return the videos of a list or of a folder of videos; any other path is a video itself."""
    if path.suffix.lower() == LIST_SUFFIX and path.is_file():
        return [video for one in listed_videos(path) for video in all_videos(one)]
    return videos_in(path) if is_project(path) else [path]
