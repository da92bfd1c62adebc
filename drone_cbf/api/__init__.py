"""What the public API adds: scenes, flights, evaluations and pictures in one call each, and registered policies."""
