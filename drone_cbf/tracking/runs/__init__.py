"""Life cycle of a run: store, start, lineage, children, interruption, resumption."""
