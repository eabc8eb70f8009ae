"""Start a server with the fake segmenter as a process that can be killed: serve.py OPTIONS-AS-JSON."""

import json
import os
import sys
import time
from pathlib import Path

from omegaconf import OmegaConf

from ivos.app import workspace
from ivos.app.access import token_of
from ivos.app.main import Project
from ivos.app.server import Server, Settings
from ivos.app.workspace import Workspace
from ivos.runtime.command_line import reported
from ivos.video import reader
from ivos.video.reader import open_source
from tests.app import fake

if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    root = Path(options["root"])
    if options.get("full"):  # the disk is full while there is a file of that name
        write = os.pwrite

        def refuse(handle, data, at):
            if (root / "full").exists():
                raise OSError(28, "No space left on device")
            return write(handle, data, at)

        os.pwrite = refuse
    for name, value in options.get("sizes", {}).items():  # at which long videos are cut into parts
        setattr(workspace, name, value)
    if options.get("slow_decoding"):  # waits before that frame while there is a file of that name
        decode = reader.Source.decode

        def slowly(source):
            for index, found in enumerate(decode(source)):
                while index >= options["slow_decoding"] and (root / "wait").exists():
                    time.sleep(0.01)
                yield found

        reader.Source.decode = slowly
    with reported():
        sources = [open_source(path, faulty_later=True) for path in options["videos"]]
        workspaces = [Workspace(root / one.name, one) for one in sources]
        settings = Settings(token_of(root), port=options.get("port", 0))
        if options.get("uploads"):
            found = OmegaConf.create({"video": options.get("project", options["videos"]), "fps": 24})
            project = Project(found, root, reader.Limits())
            settings.find_new, settings.upload = project.find_new, project.upload
            settings.max_upload = options["uploads"]
        kind = getattr(fake, options.get("segmenter", "Fake"))
        Server(workspaces, lambda: kind(**options.get("with", {})), settings).run()
