"""What changes when only the background does."""
