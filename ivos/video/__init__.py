"""What a video is: on disk (:class:`Video`), in memory (:class:`Clip`), its labels and its pictures."""
