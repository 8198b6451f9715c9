"""Where pooling looks."""
