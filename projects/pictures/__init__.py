"""The figures that stages store with their runs."""
