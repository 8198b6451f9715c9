"""Zero-shot classification of pictures: the class whose name has the highest cosine with the whole picture.

A picture's embedding is pooled as the model pools (the paper: the maximum over locations). A class's score is the
highest of its words, a word's embedding the mean over prompts. Classes that are called the same score the same; of
those, the first is the answer, as in the arg-max of published protocols.
"""
