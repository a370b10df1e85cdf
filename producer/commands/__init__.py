"""Define the commands of `enroll`; a module is imported when one of its commands is used."""
