"""The terminal: parse, call one function of the core, render."""
