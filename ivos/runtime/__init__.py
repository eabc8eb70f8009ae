"""Infrastructure shared by the programs: errors, the command line, files, loggers and sweeps."""
