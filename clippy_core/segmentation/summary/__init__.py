"""What a whole run found, on a page and on a contact sheet."""
