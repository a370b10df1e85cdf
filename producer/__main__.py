"""Run the `enroll` command as `python -m producer`."""

from producer.cli import main

main()
