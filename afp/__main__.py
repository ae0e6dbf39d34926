"""``python -m afp``."""

from afp.cli import main

if __name__ == "__main__":
    main()
