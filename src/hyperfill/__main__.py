"""`python -m hyperfill` is the command line."""

from hyperfill.cli import main

if __name__ == "__main__":
    main()
