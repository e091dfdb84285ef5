"""`python -m rankd` is `rankd`."""

from rankd.cli.main import main

if __name__ == "__main__":
    main()
