"""Looking inside a model: what its features show, group and point at, as pictures with a report around them."""
