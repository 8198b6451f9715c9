"""What the classes of the dense benchmarks are called: in their own files, in prompts, and in other words.

One file a family of data sets. ``CLASSES`` are the official names in the order of mask values, ``NAMES`` the same as
they are put into prompts. ``SYNONYMS`` and ``BACKGROUND`` are chosen by us: everyday words, none of them twice within
a benchmark, and no word for the background that could as well mean one of the classes.
"""
