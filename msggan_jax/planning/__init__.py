"""What the compiler says of a step before it runs."""
