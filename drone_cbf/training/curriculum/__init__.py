"""What a curriculum sets: stages, mechanisms, mixtures of strata, and how a monitor makes them more cautious."""
