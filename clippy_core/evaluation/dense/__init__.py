"""Measuring label maps and segments against a data set of pictures with masks."""
