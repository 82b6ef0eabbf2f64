"""`python -m daypass_runner`: no arguments; the configuration is a file."""

from daypass_runner.main import main

if __name__ == "__main__":
    main()
