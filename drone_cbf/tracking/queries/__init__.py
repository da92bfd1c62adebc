"""What the store knows about finished runs: records, selections, evidence, agreement."""
