"""`python -m prill`, which `torchrun -m prill` starts too."""

from prill.cli import main

if __name__ == "__main__":
    main()
