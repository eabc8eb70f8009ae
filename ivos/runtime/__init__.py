"""What the programs share: errors, the command line, files, loggers, sweeps."""
