"""From pictures and words to label maps: one picture, many, and what is written about them."""
