"""Read the files of other systems as they are: Canvas, OneRoster and their kind.

A format is a module that makes one `Format` (`base`): mostly a description of its files. It says
how each file is recognized (`Table.required`, `Table.any_of`, `Table.file_names`), which of its
columns ours are made from (`Table.columns`), and what a line asks for (`Table.rule`): who is a
student, which status enrolls, drops or is passed over, and which dates count. `registry.FORMATS`
lists the formats; the first one that recognizes a header reads the file.

- `base` holds the types of a description, and compares names of columns.
- `judging` decides what a line asks for, and `dates` reads its dates.
- `table_reader` makes records of lines; it counts the lines that are passed over.
- `packages` reads several files together, in an archive, as one submission.
"""
