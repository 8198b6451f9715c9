"""How a label set behaves before any picture."""
