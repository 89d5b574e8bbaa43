"""The compiler's view of a step before it runs: memory, FLOPs, speed."""
