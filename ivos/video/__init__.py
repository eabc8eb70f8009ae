"""Videos on disk (:mod:`ivos.video.video`) and in memory (:mod:`ivos.video.clip`), their labels and files."""
