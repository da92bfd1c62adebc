"""The life of a run: store, start, lineage, children, interruption and resumption."""
