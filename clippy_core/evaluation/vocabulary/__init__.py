"""What is asked in zero-shot classification: prompts, and names of classes."""
