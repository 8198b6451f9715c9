"""Features as colours, likeness and lengths."""
