"""Videos on disk (:mod:`ivos.video.video`), videos in memory (:mod:`ivos.video.clip`), labels and files."""
