"""The commands of `enroll`, each module imported when one of its commands is used."""
