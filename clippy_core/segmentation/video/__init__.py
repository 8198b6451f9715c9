"""Videos: frames read, labelled and drawn so that colours hold still."""
