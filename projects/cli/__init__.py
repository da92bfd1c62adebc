"""The command line of every entry point: parameters, validation, help, and the run around a stage."""
