"""A folder's pictures and labels in one map."""
