"""The annotation app: a web page, a server that loses nothing, and a worker that owns the network."""
