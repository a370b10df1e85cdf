"""`python -m producer` is the `enroll` command."""

from producer.cli import main

main()
