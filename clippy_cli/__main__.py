"""``python -m clippy_cli``, the same as ``clippy``."""

from clippy_cli.main import entry

if __name__ == "__main__":
    entry()
