"""Read the records that wandb has written offline."""

import json
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEAD = 32768, 7  # LevelDB's log format: blocks of records with checksum (4), length (2), type (1)


class OfflineRun:
    """The only offline run in a folder ``wandb``."""

    def __init__(self, folder: Path) -> None:
        (self.folder,) = folder.glob("offline-run-*")
        (path,) = self.folder.glob("run-*.wandb")
        self.id, self.records = path.stem.removeprefix("run-"), list(_records(path.read_bytes()))

    def rows(self) -> list[dict]:
        """Logged figures; of media their properties, as NAME/PROPERTY."""
        rows = [record.history for record in self.records if record.HasField("history")]
        return [{"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in row.item} for row in rows]

    def config(self) -> dict:
        """The configuration."""
        parts = [part for r in self.records for part in (r.run.config.update, r.config.update)]
        return {update.key: json.loads(update.value_json) for part in parts for update in part}

    def artifacts(self) -> dict[str, tuple[str, set[str]]]:
        """By name: type and files."""
        found = [record.artifact for record in self.records if record.HasField("artifact")]
        return {a.name: (a.type, {entry.path for entry in a.manifest.contents}) for a in found}

    def media(self, name: str, prop: str = "path") -> list[Path]:
        """The files of a table, or, with ``filenames``, of pictures, with ``videos`` of videos."""
        values = [row[f"{name}/{prop}"] for row in self.rows() if f"{name}/{prop}" in row]
        flat = [path for value in values for path in (value if isinstance(value, list) else [value])]
        paths = [path["path"] if isinstance(path, dict) else path for path in flat]
        return [self.folder / "files" / path for path in paths]


def _records(data: bytes):
    place, part = HEAD, b""
    while place + HEAD <= len(data):
        if BLOCK - place % BLOCK < HEAD:
            place += BLOCK - place % BLOCK
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        part += data[place + HEAD : place + HEAD + length]
        place += HEAD + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(part)
            part = b""
