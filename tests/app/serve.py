"""A server of its own with the fake segmenter, as a process that can be killed: serve.py OPTIONS-AS-JSON."""

import importlib.util
import json
import os
import sys
from pathlib import Path

from ivos.app.access import token_of
from ivos.app.server import Server, Settings
from ivos.app.workspace import Workspace
from ivos.runtime.command_line import reported
from ivos.video.reader import open_source

if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    spec = importlib.util.spec_from_file_location("fake", Path(__file__).with_name("fake.py"))
    fake = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fake)
    root = Path(options["root"])
    if options.get("full"):  # the disk is full while there is a file of that name
        write = os.pwrite

        def refuse(handle, data, at):
            if (root / "full").exists():
                raise OSError(28, "No space left on device")
            return write(handle, data, at)

        os.pwrite = refuse
    with reported():
        sources = [open_source(path) for path in options["videos"]]
        workspaces = [Workspace(root / one.name, one) for one in sources]
        settings = Settings(token_of(root), port=options.get("port", 0))
        kind = getattr(fake, options.get("segmenter", "Fake"))
        Server(workspaces, lambda: kind(**options.get("with", {})), settings).run()
