"""Features of sound: pure functions on arrays."""
