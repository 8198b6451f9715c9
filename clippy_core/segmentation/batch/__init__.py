"""Many inputs, unattended: dealt out, overlapped, written down one by one, and taken up again."""
