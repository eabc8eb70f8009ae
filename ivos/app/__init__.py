"""The annotation app: a web page, a server with a journal on disk, and a worker that runs the network."""
